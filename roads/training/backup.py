"""Backups of a training: after a kill at any moment it resumes from its last finished epoch."""

import contextlib
import hashlib
import json
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from roads.runtime.errors import FullDiskError, UserError
from roads.runtime.files import replacing
from roads.runtime.inputs import ChangedError
from roads.runtime.locks import HeldError, held
from roads.runtime.state import stale
from roads.training.curves import Row

PACKAGE = __name__.partition(".")[0]  # roads

Arrays = list[NDArray[Any]]


def fingerprint(facts: Mapping[str, Any], files: Sequence[Path]) -> str:
    """A name for a training: the same for the same facts and file contents.

    Args:
        facts: what else determines the outcome, as plain values (params, precision, backend).
        files: data, code and weights; their order matters, their paths do not.
    """
    whole = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for path in files:
        with path.open("rb") as stream:
            whole.update(hashlib.file_digest(stream, "sha256").digest())
    return whole.hexdigest()[:32]


def imported_code() -> list[Path]:
    """The imported source files of this project's library, by module name."""
    names = sorted(name for name in sys.modules if name.split(".")[0] == PACKAGE)
    files = [sys.modules[name].__file__ for name in names]
    return [Path(file) for file in files if file]


@dataclass(frozen=True)
class Progress:
    """The state of a training after an epoch; by default before the first.

    Attributes:
        rows: the curves so far, a row for each finished epoch.
        finished: the last epoch is done, or early stopping has ended the training.
        steps, seconds: so far.
        weights, optimizer, best: the net's weights, the optimizer's variables, and the weights of
            the best epoch, in Keras' order.
    """

    rows: list[Row] = field(default_factory=list)
    finished: bool = False
    steps: int = 0
    seconds: float = 0.0
    weights: Arrays = field(default_factory=list)
    optimizer: Arrays = field(default_factory=list)
    best: Arrays = field(default_factory=list)


NUMBERS = ("rows", "finished", "steps", "seconds")
ARRAYS = ("weights", "optimizer", "best")


class Backup:
    """One file, `KEY.npz` in a folder outside DVC's outputs, replaced atomically."""

    def __init__(self, folder: Path, key: str):
        self.key = key
        self.path, self.lock = folder / f"{key}.npz", folder / f"{key}.lock"

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold a lock during training, and remove the backup when training ends.

        It is kept after a kill, Ctrl-C, a full disk, or a change of inputs, which can be undone.
        Other errors remove it, since the user then changes params or data, and so the key.

        Raises:
            UserError: another process holds the same backup.
        """
        running = (
            "the same training is already running in another process (it may have outlived the "
            f"`dvc` that started it; it holds {self.lock}). Wait for it to end, or end it."
        )
        with held(self.lock, running):
            try:
                yield
                self.remove()
                self._remove_stale()
            except KeyboardInterrupt:
                epochs = len((self.load() or Progress()).rows)
                told = f"interrupted after epoch {epochs}; run the same command to continue"
                raise KeyboardInterrupt(told) from None
            except (FullDiskError, ChangedError):
                raise
            except UserError:
                self.remove()
                raise

    def _remove_stale(self) -> None:
        """Remove backups of trainings that were killed long ago and never resumed."""
        for path in stale(self.path.parent, "*.npz*"):  # and partial ones
            left = Backup(path.parent, path.name.split(".")[0])
            with contextlib.suppress(HeldError), held(left.lock):
                path.unlink(missing_ok=True)
                left.remove()

    def save(self, progress: Progress) -> None:
        """Replace the backup atomically."""
        record = {name: getattr(progress, name) for name in NUMBERS}
        arrays = {
            f"{kind}/{place:05}": array
            for kind in ARRAYS
            for place, array in enumerate(getattr(progress, kind))
        }
        arrays["record"] = np.frombuffer(json.dumps(record).encode(), np.uint8)
        with replacing(self.path) as partial, partial.open("wb") as stream:
            np.savez(stream, allow_pickle=False, **arrays)

    def load(self) -> Progress | None:
        """The last saved progress; None if there is none or it cannot be read."""
        try:
            with self.open() as stream, np.load(stream, allow_pickle=False) as file:
                arrays: dict[str, Any] = {
                    kind: [file[name] for name in sorted(file) if name.startswith(f"{kind}/")]
                    for kind in ARRAYS
                }
                record = json.loads(file["record"].tobytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            print(f"{self.path} cannot be read: training starts from its first epoch")
            return None
        return Progress(**record, **arrays)

    def open(self) -> BinaryIO:
        """Open the file for reading; raises FileNotFoundError if there is none."""
        return self.path.open("rb")

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
