"""The table of benchmarks/README.md, from the JSON files of the last measurements."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from roads.runtime.files import replacing

FOLDER = Path(__file__).resolve().parent
RESULTS = FOLDER / "results"
README = FOLDER / "README.md"
TARGET = 1.3  # crop, binarize and pack-h5 together, over their floors

Values = dict[str, Any]

HEAD = """# Measurements

Written by `make bench` from `benchmarks/results/*.json`; do not edit. A ratio is of times that were
taken in turns in one run, so it holds on a busy machine too; seconds do not. A part alone:
`make bench PARTS=data`; other numbers of tiles: `make bench PARTS=data TILES="8 108 1171"`
(1,171 tiles take 25 GB of the disk; `SCRATCH=/folder` names one). None of it is a test.

On a machine with an NVIDIA GPU one command measures training and prediction there, end to end and
bare, beside a hand-written JAX loop and compiled PyTorch:

    KERAS_BACKEND=jax python -m benchmarks.gpu_speed --json benchmarks/results/gpu.json

It needs the project's packages but neither DVC nor TensorFlow, JAX with CUDA, and PyTorch with CUDA
there or in another environment (`--python /its/bin/python`); a peer that is not there is left
out, and the file says so. Batch sizes and more: `--help`. Then `python -m benchmarks --parts`
writes this page anew.
"""


def write_table() -> None:
    """Write the page anew from whatever results are there."""
    found = {path.stem: read(path) for path in sorted(RESULTS.glob("*.json"))}
    sections = {
        "data": data_stages,
        "plain": plain_files,
        "dvc": dvc_commands,
        "train": train_feed,
        "predict": tile_prediction,
        "torch": plain_torch,
        "gpu": gpu_speed,
    }
    lines = [HEAD]
    for part, section in sections.items():
        results = [found[name] for name in found if name.split("_")[0] == part]
        if results:
            lines += [*section(sorted(results, key=lambda each: each.get("tiles", 0)))]
            lines += ["", f"*{measured(results[-1])}*", ""]
    with replacing(README) as partial:
        partial.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


def read(path: Path) -> Values:
    values: Values = json.loads(path.read_text(encoding="utf-8"))
    return values


def measured(values: Values) -> str:
    """On what, when and with what."""
    versions = ", ".join(f"{package} {version}" for package, version in values["versions"].items())
    if "torch" in values:
        versions += f", torch {values['torch']}"
    for name, facts in values.get("peers", {}).items():
        versions += f", {name} {facts['version']}"
    return (
        f"{values['date']}, {values['processor']}, {values['processes']} processes, load "
        f"{values['load']} in the last five minutes; Python {values['python']}, {versions}"
    )


def rows(head: str, *lines: str) -> Iterator[str]:
    yield head
    yield "|" + "---|" * (head.count("|") - 1)
    yield from lines


def data_stages(results: list[Values]) -> Iterator[str]:
    yield "## Data stages over their floor\n"
    yield (
        "The floor decodes every input once and writes every byte of the outputs once, with the "
        'same libraries and processes. "Start" is what the stage\'s command takes beyond its '
        "work: Python, imports, worker processes, the same for any number of tiles (below 0 is "
        'noise). "Peak" is the largest process.\n'
    )
    yield from rows(
        "| tiles | stage | seconds | ms a tile | floor, ms a tile | ratio | start, s | peak, MiB |",
        *(
            f"| {values['tiles']:,} | {stage} | {found['seconds']:.2f} "
            f"| {1000 * found['seconds'] / values['tiles']:.1f} "
            f"| {1000 * found['floor_seconds'] / values['tiles']:.1f} | {found['ratio']:.2f} "
            f"| {found['command_seconds'] - found['seconds']:.1f} | {found['peak_mib']} |"
            for values in results
            for stage, found in values["stages"].items()
        ),
    )
    yield ""
    for values in results:
        yield (
            f"- {values['tiles']:,} tiles: crop, binarize and pack-h5 together take "
            f"**{values['ratio']:.2f}** times their floor (target: at most {TARGET})"
        )


def plain_files(results: list[Values]) -> Iterator[str]:
    ways = {"ours": "stacks and packs", "plain": "a PNG a crop"}
    for values in results:
        yield f"## A PNG for each crop, or stacks and packs: {values['tiles']} tiles\n"
        yield from rows(
            "| | to write, s | files | MiB | `dvc add`, s | `dvc checkout`, s | reads, crops/s |",
            *(
                f"| {name} | {found['seconds']:.1f} | {found['files']:,} | {found['mib']:,} "
                f"| {found['add']:.1f} | {found['checkout']:.1f} | {found['reads']:,} |"
                for way, name in ways.items()
                for found in [values[way]]
            ),
        )


def dvc_commands(results: list[Values]) -> Iterator[str]:
    titles = {
        "first": "`dvc repro`, everything (12 tiles, tiny net, one epoch)",
        "nothing": "`dvc repro`, nothing changed",
        "evaluate": "`dvc exp run -S evaluate.overlap=64`: evaluate alone",
        "threshold": "`dvc exp run -S binarize.threshold=120 pack-h5`: binarize and pack-h5",
    }
    yield "## DVC's commands\n"
    yield from rows(
        "| command | seconds |",
        *(f"| {title} | {results[-1][name]:.1f} |" for name, title in titles.items()),
    )


def train_feed(results: list[Values]) -> Iterator[str]:
    found = results[-1]
    yield "## Training, over the bare step\n"
    yield from rows(
        "| device | precision | batch | `train`, crops/s | bare step, crops/s | ratio |",
        f"| {found['device']} | {found['precision']} | {found['batch']} | {found['train']:.1f} "
        f"| {found['bare']:.1f} | {found['ratio']:.2f} |",
    )


def tile_prediction(results: list[Values]) -> Iterator[str]:
    found = results[-1]
    yield "## Whole tiles of 1500×1500, seconds a tile, over the bare forward pass\n"
    yield from rows(
        "| device | precision | predict, s | bare, s | ratio | score, s | peak, MiB |",
        f"| {found['device']} | {found['precision']} | {found['predict']:.2f} "
        f"| {found['bare']:.2f} | {found['ratio']:.2f} | {found['score']:.2f} "
        f"| {found['peak_mib']:.0f} |",
    )


def plain_torch(results: list[Values]) -> Iterator[str]:
    found = results[-1]
    yield "## The same net in a plain PyTorch loop\n"
    yield (
        f"The article's net ({found['parameters']:,} parameters), the same batches in memory, "
        f"Adam, soft Dice, {found['precision']}, {found['processes']} threads; PyTorch "
        "channels-last, with autocast, not compiled; both predict with batch normalization folded "
        "into the convolutions.\n"
    )
    yield from rows(
        "| | batch | ours, crops/s | PyTorch, crops/s | ours over PyTorch |",
        *(
            f"| {title} | {found[what]['batch']} | {found[what]['ours']:.1f} "
            f"| {found[what]['torch']:.1f} | {found[what]['ratio']:.2f} |"
            for what, title in (("train", "training step"), ("predict", "prediction"))
        ),
    )


def gpu_speed(results: list[Values]) -> Iterator[str]:
    yield "## On a GPU, beside a hand-written JAX loop and PyTorch\n"
    yield (
        "The same net, batches, Adam, soft Dice and precision for all; crops of a peer lie on the "
        'GPU. "End to end" is training from packed files by `fit` (in brackets with validation '
        "and backup), and prediction from crops in memory to probabilities in memory.\n"
    )
    yield from rows(
        "| | device | precision | batch | ours end to end, crops/s | ours bare | JAX | PyTorch "
        "| end to end over bare | over the faster peer |",
        *(
            f"| {title} | {values['device']} | {values['precision']} | {found['batch']} "
            f"| {end_to_end(found['crops_per_second'])} | {speed(found, 'bare')} "
            f"| {speed(found, 'jax')} | {speed(found, 'torch')} | {found['over_bare']:.2f} "
            f"| {found.get('over_peer', '–')} |"
            for values in results
            for what, title in (("train", "training"), ("predict", "prediction"))
            for found in [values[what]]
        ),
    )


def end_to_end(speeds: dict[str, float]) -> str:
    if "predictor" in speeds:
        return f"{speeds['predictor']:,.0f}"
    return f"{speeds['fit']:,.0f} ({speeds['fit_whole']:,.0f})"


def speed(found: Values, name: str) -> str:
    value = found["crops_per_second"].get(name)
    return "–" if value is None else f"{value:,.0f}"
