"""Writes benchmarks/README.md from the JSON files of the last measurements."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
RESULTS = FOLDER / "results"
TARGET = 1.3  # crop, binarize and pack-h5 together, over their floors

Values = dict[str, Any]

HEAD = """# Measurements

Written by `make bench` from `benchmarks/results/*.json`; do not edit. The two times of a ratio were
measured in turns, so ratios hold on a busy machine too; seconds do not. To measure one part, run
`make bench PARTS=data`; with other numbers of tiles, `make bench PARTS=data TILES="8 108 1171"`
(1,171 tiles take 25 GB of disk; choose the folder with `SCRATCH=/folder`). These are not tests.

On a machine with an NVIDIA GPU, the first command compares training from packed files with the bare
step, the second the bare step and forward pass with compiled PyTorch:

    export KERAS_BACKEND=jax
    python -m benchmarks.train_feed --batch 32 --steps 128 \\
      --json benchmarks/results/train_gpu.json
    python -m benchmarks.plain_torch --train-batch 32 --predict-batch 64 --steps 128 \\
      --python /its/bin/python --json benchmarks/results/torch_gpu.json

They need the project's packages without DVC and TensorFlow, and JAX and PyTorch with CUDA (PyTorch
may be in another environment: `--python`). Then `python -m benchmarks --parts` rewrites this page.
`benchmarks.gpu_run` also prints its training speed as a fraction of what the GPU's memory bandwidth
allows.
"""


def write_table() -> None:
    """Write the page from the existing results."""
    sections = {
        "plain": plain_files,
        "dvc": dvc_commands,
        "train": train_feed,
        "predict": tile_prediction,
        "torch": plain_torch,
    }
    data = read("data")
    parts = [HEAD, *([data_stages(data), measured(data[-1])] if data else [])]
    for part, section in sections.items():
        for values in read(part):
            parts += [section(values), measured(values)]
    (FOLDER / "README.md").write_text("\n".join(parts), encoding="utf-8")


def read(part: str) -> list[Values]:
    """All results of a part: `PART.json` and `PART_*.json`."""
    paths = sorted([*RESULTS.glob(f"{part}.json"), *RESULTS.glob(f"{part}_*.json")])
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths]


def measured(values: Values) -> str:
    """The date, machine and versions of a measurement."""
    versions = values["versions"] | ({"torch": values["torch"]} if "torch" in values else {})
    return (
        f"*{values['date']}, {values['processor']}, {values['processes']} processes, load "
        f"{values['load']} in the last five minutes; Python {values['python']}, "
        + ", ".join(f"{package} {version}" for package, version in versions.items())
        + "*\n"
    )


def table(head: str, rows: Iterable[str]) -> str:
    return "\n".join([head, "|" + "---|" * (head.count("|") - 1), *rows, ""])


def data_stages(results: list[Values]) -> str:
    results = sorted(results, key=lambda values: values["tiles"])
    rows = (
        f"| {values['tiles']:,} | {stage} | {found['seconds']:.2f} "
        f"| {1000 * found['seconds'] / values['tiles']:.1f} "
        f"| {1000 * found['floor_seconds'] / values['tiles']:.1f} | {found['ratio']:.2f} "
        f"| {found['command_seconds'] - found['seconds']:.1f} | {found['peak_mib']} |"
        for values in results
        for stage, found in values["stages"].items()
    )
    together = "\n".join(
        f"- {values['tiles']:,} tiles: crop, binarize and pack-h5 together take "
        f"**{values['ratio']:.2f}** times their floor (target: at most {TARGET})"
        for values in results
    )
    head = (
        "| tiles | stage | seconds | ms per tile | floor, ms per tile | ratio | start, s "
        "| peak, MiB |"
    )
    return f"""## Data stages over their floor

The floor only decodes every input once and writes every byte of the outputs once, with the same
libraries and number of processes. "Start" is the rest of the time of the stage's command: Python,
imports, worker processes, the same for any number of tiles (below 0 is noise). "Peak" is the memory
of the largest process.

{table(head, rows)}
{together}
"""


def plain_files(values: Values) -> str:
    rows = (
        f"| {name} | {found['seconds']:.1f} | {found['files']:,} | {found['mib']:,} "
        f"| {found['add']:.1f} | {found['checkout']:.1f} | {found['reads']:,} |"
        for name, found in (
            ("stacks and packs", values["ours"]),
            ("a PNG per crop", values["plain"]),
        )
    )
    head = "| | to write, s | files | MiB | `dvc add`, s | `dvc checkout`, s | reads, crops/s |"
    title = f"## A PNG for each crop compared with stacks and packs: {values['tiles']} tiles"
    return f"{title}\n\n{table(head, rows)}"


def dvc_commands(values: Values) -> str:
    titles = {
        "first": "`dvc repro`, everything (12 tiles, tiny net, one epoch)",
        "nothing": "`dvc repro`, nothing changed",
        "evaluate": "`dvc exp run -S evaluate.overlap=64`: evaluate alone",
        "threshold": "`dvc exp run -S binarize.threshold=120 pack-h5`: binarize and pack-h5",
    }
    rows = (f"| {title} | {values[name]:.1f} |" for name, title in titles.items())
    return f"## DVC's commands\n\n{table('| command | seconds |', rows)}"


def train_feed(values: Values) -> str:
    head = "| device | precision | batch | `train`, crops/s | bare step, crops/s | ratio |"
    row = (
        f"| {values['device']} | {values['precision']} | {values['batch']} "
        f"| {values['train']:.1f} | {values['bare']:.1f} | {values['ratio']:.2f} |"
    )
    return f"## Training, over the bare step\n\n{table(head, [row])}"


def tile_prediction(values: Values) -> str:
    head = "| device | precision | predict, s | bare, s | ratio | score, s | peak, MiB |"
    row = (
        f"| {values['device']} | {values['precision']} | {values['predict']:.2f} "
        f"| {values['bare']:.2f} | {values['ratio']:.2f} | {values['score']:.2f} "
        f"| {values['peak_mib']:.0f} |"
    )
    title = "## Whole tiles of 1500×1500, seconds per tile, over the bare forward pass"
    return f"{title}\n\n{table(head, [row])}"


def plain_torch(values: Values) -> str:
    on_cpu = values["device"] == "CPU"
    compiled = "not compiled" if on_cpu else "compiled"
    where = f"{values['processes']} threads" if on_cpu else values["device"]
    rows = (
        f"| {title} | {found['batch']} | {found['ours']:.1f} | {found['torch']:.1f} "
        f"| {found['ratio']:.2f} |"
        for title, found in (("training step", values["train"]), ("prediction", values["predict"]))
    )
    return f"""## The same net in a plain PyTorch loop

The article's net ({values["parameters"]:,} parameters), the same batches in memory, Adam, soft
Dice, {values["precision"]}, {where}; PyTorch channels-last, with autocast, {compiled};
both predict with batch normalization folded into the convolutions.

{table("| | batch | ours, crops/s | PyTorch, crops/s | ours over PyTorch |", rows)}"""
