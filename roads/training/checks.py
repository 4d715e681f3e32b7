"""What is refused before a training begins."""

from pathlib import Path

from roads.dataset.packs import PackReader
from roads.models.encoders import ENCODERS
from roads.params.augment import AugmentParams
from roads.params.train import TrainParams
from roads.params.unet import UnetParams, size_step
from roads.runtime.errors import UserError
from roads.training.processes import process_count


def check_params(params: TrainParams, unet: UnetParams) -> None:
    """Raise a UserError where params do not go together."""
    frozen, warmup, epochs = params.freeze_encoder_epochs, params.warmup_epochs, params.epochs
    if frozen > 0 and unet.encoder not in ENCODERS:
        raise UserError(
            f"train.freeze_encoder_epochs is {frozen}, and unet.encoder {unet.encoder} has no "
            f"pretrained weights to keep. Set the first to 0, or the second to "
            f"{' or '.join(ENCODERS)}."
        )
    if params.minutes is None:
        if frozen >= epochs:
            raise UserError(
                f"train.freeze_encoder_epochs is {frozen} and train.epochs {epochs}: training "
                "would end before the encoder is trained. Lower the first."
            )
        if warmup >= epochs:
            raise UserError(
                f"train.warmup_epochs is {warmup:g} and train.epochs {epochs}: training would end "
                "before its learning rate is reached. Lower the first."
            )
    elif frozen > 0:
        raise UserError(
            "train.minutes does not go with train.freeze_encoder_epochs: the time could be over "
            "before the encoder is trained. Set one of the two to its default."
        )
    elif params.schedule == "plateau":
        raise UserError(
            "train.minutes needs a learning rate that does not wait for a plateau. Set "
            "train.schedule to cosine (it falls to 0 when the time is over) or constant."
        )
    elif process_count() > 1:
        raise UserError(
            "train.minutes works in one process: several would not end at the same step. Set it "
            "to null, and train.epochs to a number."
        )


def check_pack(pack: PackReader, data: Path, unet: UnetParams, augmentation: AugmentParams) -> None:
    """Raise a UserError where a split is empty, or crops or windows have a size that cannot be."""
    for split, use in (("train", "train on"), ("valid", "validate with")):
        if pack.rows(split) == 0:
            raise UserError(
                f"{data} has no crops to {use}: `{split}` is empty. See split.*, crop.max_blank "
                "and pack.min_road in params.yaml, or download more tiles."
            )
    step = size_step(unet)
    if pack.size % step:
        raise UserError(
            f"crops of {pack.size} pixels do not fit a net of unet.depth {unet.depth}: crop.size "
            f"must be a multiple of {step}"
        )
    window = augmentation.window or step
    if window % step or window > pack.size:
        raise UserError(
            f"augment.window is {window}: it must be a multiple of {step} (for unet.depth "
            f"{unet.depth}) and no larger than the crops of {pack.size} pixels"
        )
