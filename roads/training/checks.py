"""Checks before training that params.yaml alone cannot make."""

from pathlib import Path

from roads.dataset.packs import PackReader
from roads.params.train import TrainParams
from roads.runtime.errors import UserError
from roads.training.processes import process_count


def check_processes(params: TrainParams) -> None:
    """Raise a UserError if several processes are to train for a number of minutes."""
    if params.minutes is not None and process_count() > 1:
        raise UserError(
            "train.minutes works in one process only: several would not end at the same step. Set "
            "it to null, and train.epochs to a number."
        )


def check_pack(pack: PackReader, data: Path) -> None:
    """Raise a UserError if there are no crops for training or validation."""
    for split, use in (("train", "train on"), ("valid", "validate with")):
        if pack.rows(split) == 0:
            raise UserError(
                f"{data} has no crops to {use}: `{split}` is empty. See split.*, crop.max_blank "
                "and pack.min_road in params.yaml, or download more tiles."
            )
