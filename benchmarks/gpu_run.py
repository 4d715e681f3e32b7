"""Trains a recipe on a GPU machine without DVC or a network, within a given time.

    python3 -m benchmarks.gpu_run --tiles FOLDER --wheels FOLDER --work FOLDER --out FOLDER \\
      --minutes 9

It unpacks the wheels, runs the data stages, measures the speed of a step, and trains until the time
is up. After every epoch, about 25 seconds, it replaces OUT/last, a net that can be released; at the
end OUT/best has the net of the best epoch. OUT/record.json next to them, written from the start of
training, records how they were trained. If the machine is taken away, only one epoch is lost.
`benchmarks.release` scores and releases a net, on another machine if necessary.

If a data stage fails, the tiles are decoded without it. If training fails, it continues from the
last snapshot: with Keras' own loop, then in float32, or at half the learning rate if the loss is
NaN. If the first steps take too long, it starts again with a small net. A repeated command reuses
what WORK has of the packs, compiled code and measurements.

This file uses only Python's standard library, so that it can unpack everything else; code that
imports the project is in `benchmarks/gpu_work.py`.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

PROJECT = Path(__file__).resolve().parent.parent
WORKER = [sys.executable, "-m", "benchmarks.gpu_work"]
TRAINER = [sys.executable, "-m", "stages.train"]

FIRST_STEPS = "the first steps took"  # what training prints once it has compiled
NOT_A_NUMBER = ("so training cannot continue", "numbers that are not finite")
FIRST_STEP = 180  # seconds; then a small net is tried
TRAINED = 60  # seconds that measuring leaves for training, at least
RESERVE = 30  # seconds reserved for start, last validation and last weights
LEAST = 20  # seconds; with less left there is no further try
EPOCH_SECONDS = 25  # of an epoch, so that validation and snapshots take a small part
FEW_REPEATS = 4  # if the speed is unknown: an epoch must end in time
SMALL_NET = {"unet.filters": 16, "unet.encoder": "plain"}

# Minimum bytes that a training step moves per 256×256 crop, by encoder and filters: 14 passes over
# the bfloat16 output of every convolution, forward and backward.
STEP_BYTES = {
    ("plain", 16): 286e6, ("plain", 32): 572e6, ("residual", 32): 685e6,
}  # fmt: skip
BANDWIDTH = {"H100": 3.0e12, "H200": 4.3e12}  # bytes per second, measured by copying
CROP = 256

Params = dict[str, dict[str, Any]]


class Ended(NamedTuple):
    """How a process ended: `reason` is finished, failed, no first step, not a number or late."""

    reason: str
    seconds: float


Record = Callable[[Params, Ended | None], None]


class Script:
    """One run: its folders, deadline, log, and results."""

    def __init__(self, arguments: argparse.Namespace):
        self.deadline = time.monotonic() + 60 * arguments.minutes
        self.arguments = arguments
        self.work, self.out = arguments.work.resolve(), arguments.out.resolve()
        self.work.mkdir(parents=True, exist_ok=True)
        self.out.mkdir(parents=True, exist_ok=True)
        self.log = (self.out / "log.txt").open("a", encoding="utf-8")
        self.table: list[tuple[str, str]] = []
        paths = [str(PROJECT), *unpack_wheels(arguments.wheels, self.work / "site")]
        cache = self.work / "compiled"
        self.environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([*paths, os.environ.get("PYTHONPATH", "")]),
            "PYTHONUNBUFFERED": "1",
            "KERAS_BACKEND": "jax",
            "KERAS_HOME": str(self.work / "keras"),
            "ROADS_STATE": str(self.work / "state"),
            "DVC_STAGE": "train",  # the trainer then ends if this process does
            "JAX_COMPILATION_CACHE_DIR": str(cache),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }

    def left(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - time.monotonic()

    def say(self, text: str) -> None:
        line = f"{datetime.now(UTC):%H:%M:%S} {text}"
        print(line, flush=True)
        print(line, file=self.log, flush=True)

    def note(self, what: str, value: str) -> None:
        """Add a row to the table that is printed at the end."""
        self.table.append((what, value))
        self.say(f"{what}: {value}")

    def run(
        self, command: Sequence[str], folder: Path, seconds: float, first_step: float | None = None
    ) -> Ended:
        """Run a command for at most `seconds`, and log its output.

        Args:
            command: the program and its arguments.
            folder: the folder to run it in.
            seconds: after this time it is killed.
            first_step: it is also killed if it has not reported its first steps after this time.
        """
        start = time.monotonic()
        seen: set[str] = set()
        folder.mkdir(parents=True, exist_ok=True)
        process = subprocess.Popen(
            command, cwd=folder, env=self.environment, text=True, errors="replace",
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

        def read() -> None:
            assert process.stdout is not None
            for line in process.stdout:
                seen.update(mark for mark in (FIRST_STEPS, *NOT_A_NUMBER) if mark in line)
                self.say(line.rstrip())

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        reason = None
        while process.poll() is None:
            passed = time.monotonic() - start
            if first_step is not None and passed > first_step and FIRST_STEPS not in seen:
                reason = "no first step"
            elif passed > seconds:
                reason = "late"
            if reason:
                process.kill()
                process.wait()
                break
            time.sleep(0.1)
        reader.join(5)
        if reason is None:
            reason = "finished" if process.returncode == 0 else "failed"
            if reason == "failed" and not seen.isdisjoint(NOT_A_NUMBER):
                reason = "not a number"
        return Ended(reason, time.monotonic() - start)


def worker(verb: str, **arguments: Any) -> list[str]:
    """The command that calls a function of `gpu_work`."""
    return [*WORKER, verb, json.dumps(arguments, default=str)]


def unpack_wheels(wheels: Path | None, site: Path) -> list[str]:
    """Unpack wheels into `site`, so that their packages can be imported from there.

    Returns:
        `site`, or nothing without wheels: then the installed packages are used.
    """
    archives = sorted(wheels.glob("*.whl")) if wheels else []
    for archive in archives:
        with zipfile.ZipFile(archive) as file:
            file.extractall(site)
    return [str(site)] if archives else []


def changed(params: Params, changes: Mapping[str, Any]) -> Params:
    """A copy of params with changes such as `{"train.epochs": 3}`."""
    copy = {section: dict(values) for section, values in params.items()}
    for name, value in changes.items():
        section, _, key = name.partition(".")
        copy[section][key] = value
    return copy


def digest(params: Params) -> str:
    return hashlib.sha256(json.dumps(params, sort_keys=True).encode()).hexdigest()[:16]


def command(changes: Mapping[str, Any]) -> str:
    """The run as a DVC experiment, with a placeholder for the folder of tiles."""
    named = {**changes, "download.folder": "/absolute/path"}
    words = [
        f"-S {name}={value if isinstance(value, str) else json.dumps(value)}"
        for name, value in named.items()
    ]
    return f"KERAS_BACKEND=jax dvc exp run {' '.join(words)}"


def write_params(params: Params, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "params.yaml").write_text(json.dumps(params, indent=1))  # JSON is YAML


def after(reason: str, params: Params, out: Path) -> dict[str, Any] | None:
    """The changes for the next try after a training ended like this; None if there is none."""
    train = params["train"]
    own: dict[str, Any] = {}  # instead of the weights of a pretrained encoder
    if params["unet"]["encoder_weights"] != "none":
        own = {"unet.encoder_weights": "none"}
    if reason == "no first step":
        return SMALL_NET | own if changed(params, SMALL_NET) != params else None
    if reason == "not a number":
        changes: dict[str, Any] = {"train.learning_rate": train["learning_rate"] / 2}
    elif reason == "failed" and train["loop"] != "fit":
        changes = {"train.loop": "fit", "augment.repeats": FEW_REPEATS}
    elif reason == "failed" and train["precision"] != "float32":
        changes = {"train.precision": "float32", "augment.repeats": FEW_REPEATS}
    else:
        return None
    if (out / "last" / "unet.weights.h5").exists():
        changes |= {"train.weights_folder": str(out), "train.initial_weights": "last"} | own
    return changes


def roofline(params: Params, device: str) -> float | None:
    """The crops of 256×256 per second that a GPU's memory bandwidth allows, if known."""
    moved = STEP_BYTES.get((params["unet"]["encoder"], params["unet"]["filters"]))
    rate = next((rate for name, rate in BANDWIDTH.items() if name in device), None)
    return rate / moved if moved and rate else None


def measure(script: Script, params: Params, packed: Path) -> tuple[Params, dict[str, Any] | None]:
    """Measure the speed of training, and make an epoch last about EPOCH_SECONDS.

    Returns:
        The params with `augment.repeats` set, and the measured values, if any.
    """
    folder = script.work / f"measured-{digest(params)}"
    report = folder / "speed.json"
    if not report.exists():
        write_params(params, folder)
        words = worker("measure", packed=packed, report=report)
        script.run(words, folder, min(FIRST_STEP, script.left() - TRAINED))
    if not report.exists():
        script.note("speed", "not measured")
        return changed(params, {"augment.repeats": FEW_REPEATS}), None
    speed: dict[str, Any] = json.loads(report.read_text())
    crops = speed["windows_per_second"] * speed["window"] ** 2 / CROP**2
    most = roofline(params, speed["device"])
    fraction = f", {crops / most:.2f} of the roofline" if most else ""
    script.note(
        f"speed with windows of {speed['window']}",
        f"{speed['windows_per_second']:.0f} windows/s, {crops:.0f} crops of {CROP}/s{fraction}"
        f"; first call {speed['first_call']:.0f} s",
    )
    repeats = max(1, round(EPOCH_SECONDS * speed["windows_per_second"] / speed["crops"]))
    speed |= {"crops_per_second": crops, "roofline": most}
    return changed(params, {"augment.repeats": repeats}), speed


def train(script: Script, params: Params, packed: Path, record: Record) -> Ended:
    """Train until the time is up; after a failure, try again with changed params.

    Args:
        script: the run.
        params: for the first try.
        packed: the folder of packed crops.
        record: called with the params before each try, and with params and result after it.
    """
    for name in ("last", "best"):  # an earlier run's
        shutil.rmtree(script.out / name, ignore_errors=True)
    tries = 0
    while True:
        tries += 1
        folder = script.work / f"train-{tries}-{os.getpid()}"
        params = changed(params, {"train.minutes": max(script.left() - RESERVE, 1) / 60})
        write_params(params, folder)
        words = [
            *TRAINER, "--data", str(packed), "--model", "models", "--log", "metrics/train",
            "--metrics", "metrics/train.json", "--snapshots", str(script.out / "last"),
        ]  # fmt: skip
        record(params, None)
        ended = script.run(words, folder, script.left() - 3, FIRST_STEP)
        script.note(f"training, try {tries}", f"{ended.reason} after {ended.seconds:.0f} s")
        record(params, ended)
        if ended.reason == "finished":
            words = worker("halve", model=folder / "models", to=script.out / "best")
            script.run(words, script.work, max(script.left(), LEAST))
            return ended
        changes = after(ended.reason, params, script.out)
        if changes is None or script.left() < RESERVE + LEAST:
            return ended
        script.note("tried again with", json.dumps(changes))
        params = changed(params, changes)


def difference(params: Params, others: Params) -> dict[str, Any]:
    """The changes that turn `others` into `params`, except paths on this machine."""
    return {
        f"{section}.{key}": value
        for section, values in params.items()
        for key, value in values.items()
        if value != others[section][key] and key != "weights_folder"
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tiles", type=Path, required=True, help="folder of image and map pairs")
    parser.add_argument("--wheels", type=Path, help="folder of wheels to import packages from")
    parser.add_argument("--work", type=Path, required=True, help="folder for intermediate files")
    parser.add_argument("--out", type=Path, required=True, help="folder for the weights")
    parser.add_argument("--minutes", type=float, required=True, help="time until the deadline")
    parser.add_argument("--recipe", type=Path, default=PROJECT / "recipes/best.yaml")
    parser.add_argument("-S", dest="changes", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--commit", default="", help="of the project, if Git is missing here")
    arguments = parser.parse_args()
    script = Script(arguments)
    tiles = arguments.tiles.resolve()
    words = worker(
        "plan", recipe=arguments.recipe.resolve(), changes=arguments.changes, tiles=tiles,
        commit=arguments.commit,
    )  # fmt: skip
    answer = subprocess.run(words, cwd=PROJECT, env=script.environment, stdout=subprocess.PIPE)
    if answer.returncode != 0:
        return 1
    plan = json.loads(answer.stdout)
    params: Params = plan["params"]
    write_params(params, script.work)
    words = worker("prepare", tiles=tiles, work=script.work)
    prepared = script.run(words, script.work, script.left())
    script.note("packed crops", f"{prepared.reason} after {prepared.seconds:.0f} s")
    if prepared.reason != "finished":
        return 1
    packed = script.work / "packed"
    params, speed = measure(script, params, packed)

    def record(now: Params, ended: Ended | None) -> None:
        """Write the record, which a release of these nets needs."""
        changes = plan["record"]["changes"] | difference(now, plan["params"])
        values = plan["record"] | {
            "changes": changes,
            "command": command(changes),
            "params": now,
            "speed": speed,
            "seconds": {"train": round(ended.seconds, 1) if ended else None},
            "tries": script.table,
        }
        partial = script.out / "record.partial"
        partial.write_text(json.dumps(values, indent=2) + "\n")
        partial.replace(script.out / "record.json")

    train(script, params, packed, record)
    print("\n" + "\n".join(f"{what:34}{value}" for what, value in script.table), flush=True)
    return 0 if (script.out / "last" / "unet.weights.h5").exists() else 1


if __name__ == "__main__":
    sys.exit(main())
