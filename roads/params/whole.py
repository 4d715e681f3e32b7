"""All of params.yaml: every section, and the rules across sections."""

from pathlib import Path
from typing import Self

from pydantic import model_validator

from roads.params.augment import AugmentParams
from roads.params.binarize import BinarizeParams
from roads.params.crop import CropParams
from roads.params.download import DownloadParams
from roads.params.evaluate import EvaluateParams
from roads.params.handpick import HandpickParams
from roads.params.pack import PackParams
from roads.params.parallel import ParallelParams
from roads.params.sample import SampleParams
from roads.params.split import SplitParams
from roads.params.train import NO_NET, TrainParams
from roads.params.unet import PRETRAINED, UnetParams, size_step
from roads.runtime.errors import excerpt
from roads.runtime.params import PARAMS_FILE, Section, load_params, validated


class Params(Section):
    """params.yaml. With `train.epochs: 0`, `unet:` is not used and need not match the rest."""

    download: DownloadParams
    sample: SampleParams
    handpick: HandpickParams
    crop: CropParams
    split: SplitParams
    binarize: BinarizeParams
    pack: PackParams
    unet: UnetParams
    augment: AugmentParams
    train: TrainParams
    evaluate: EvaluateParams
    parallel: ParallelParams

    @model_validator(mode="after")
    def _sections_go_together(self) -> Self:
        if self.train.epochs == 0 and self.train.initial_weights == NO_NET:
            raise ValueError(
                "train.epochs is 0 and train.initial_weights is none: there is no net to evaluate. "
                "Set one of them"
            )
        step = size_step(self.unet)
        sizes = {
            "crop.size": self.crop.size,
            "augment.window": self.augment.window or step,
            "evaluate.window": self.evaluate.window,
        }
        for key, size in sizes.items():
            if self.train.epochs > 0 and size % step:
                raise ValueError(
                    f"{key} is {size}: with unet.depth {self.unet.depth} it must be a multiple of "
                    f"{step}"
                )
        if self.augment.window is not None and self.augment.window > self.crop.size:
            raise ValueError(
                f"augment.window {self.augment.window} is larger than crop.size {self.crop.size}"
            )
        freezes = self.train.epochs > 0 and self.train.freeze_encoder_epochs > 0
        random = self.unet.encoder_weights == "none" and self.train.initial_weights == NO_NET
        if freezes and self.unet.encoder != PRETRAINED:
            raise ValueError(
                f"train.freeze_encoder_epochs is {self.train.freeze_encoder_epochs}, but "
                f"unet.encoder {self.unet.encoder} has no pretrained weights to keep. Set the "
                f"first to 0, or unet.encoder to {PRETRAINED}"
                + (" and unet.encoder_weights to imagenet" if random else "")
            )
        if freezes and random:
            raise ValueError(
                f"train.freeze_encoder_epochs is {self.train.freeze_encoder_epochs}, but "
                "unet.encoder_weights and train.initial_weights are none: random weights would be "
                "kept. Set the first to 0, or unet.encoder_weights to imagenet"
            )
        if self.train.epochs > 0 and self.unet.encoder_weights != "none":
            wrong = f"unet.encoder_weights {self.unet.encoder_weights} cannot be combined with"
            if self.train.initial_weights != NO_NET:
                initial = excerpt(self.train.initial_weights)
                raise ValueError(
                    f"{wrong} train.initial_weights {initial}, which overrides them. Set "
                    "unet.encoder_weights to none"
                )
            if self.unet.encoder != PRETRAINED:
                raise ValueError(
                    f"{wrong} unet.encoder {self.unet.encoder}, which has no such weights. Set "
                    f"unet.encoder_weights to none, or unet.encoder to {PRETRAINED}"
                )
        return self


def read_params(path: Path = PARAMS_FILE) -> Params:
    """Read and check the whole file.

    Raises:
        UserError: the file is missing or not YAML; a section or key is missing, unknown or out of
            range; or two of them contradict each other.
    """
    return validated(Params, load_params(path), path)
