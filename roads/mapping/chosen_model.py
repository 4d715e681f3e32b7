"""The model for a map: which weights, which threshold, and the loaded net."""

import functools
import json
import threading
from dataclasses import dataclass
from pathlib import Path

from roads.mapping.predicting import Model
from roads.models.backend import device_name
from roads.models.weights import (
    RELEASED,
    SCORES_FILE,
    THRESHOLDS_FILE,
    WEIGHTS_FILE,
    WEIGHTS_SUFFIX,
    find_weights,
    read_description,
)
from roads.params.unet import size_step
from roads.prediction.blending import Predict, all_turns
from roads.prediction.folding import load_folded
from roads.prediction.inference import Predictor
from roads.runtime.arrays import Float32, Image8
from roads.runtime.errors import UserError
from roads.runtime.files import file_hash
from roads.runtime.params import CHECKOUT

CPU_BATCH, GPU_BATCH = 2, 16  # windows; on a CPU larger batches need memory and save no time
PIPELINE = Path("models") / WEIGHTS_FILE
EVALUATED = Path("metrics/test") / THRESHOLDS_FILE


def resolve_weights(name: str | Path | None) -> Path:
    """The weights file for `name`: a file, a folder with one, or a released net.

    None means the pipeline's. Released nets are searched for in the current folder, then in that of
    this code.

    Raises:
        UserError: there is no such net.
    """
    if name is None:
        if not PIPELINE.is_file():
            raise UserError(
                f"there is no trained net here: {PIPELINE} is missing. Run `dvc repro`, or choose "
                "a net, such as --model massachusetts-gpu"
            )
        return PIPELINE
    path = Path(name)
    if (path / WEIGHTS_FILE).is_file():
        return path / WEIGHTS_FILE
    if path.name.endswith(WEIGHTS_SUFFIX):
        return path
    is_here = (RELEASED / name / WEIGHTS_FILE).is_file()
    return find_weights(str(name), RELEASED if is_here else CHECKOUT / RELEASED)


def choose_model(weights: Path, window: int, batch: int | None, tta: bool) -> Model:
    """Load a net.

    Args:
        weights: a `.weights.h5` file, with its description next to it.
        window: side of the windows in pixels.
        batch: windows predicted at once; None chooses by the device.
        tta: predict the mean over all flips and turns.

    Raises:
        UserError: the files are missing or broken, or the net cannot take windows of that size.
    """
    check_window(weights, window)
    if batch is None:
        batch = CPU_BATCH if device_name() == "CPU" else GPU_BATCH
    sha256 = file_hash(weights, "sha256")
    predict = PredictAnywhere(weights.absolute(), sha256, batch, tta)
    _predictor(predict)
    temperature = read_description(weights).temperature
    return Model(predict, batch, weights.as_posix(), sha256, temperature)


def check_window(weights: Path, window: int) -> None:
    """Raise a UserError unless the net takes windows of `window` pixels a side."""
    unet = read_description(weights).unet
    step = size_step(unet)
    if window % step:
        raise UserError(
            f"windows of {window} pixels do not fit the net of {weights}: with a depth of "
            f"{unet.depth} it takes multiples of {step}. Set --window or evaluate.window"
        )


@dataclass(frozen=True)
class PredictAnywhere:
    """Predicts in any process that can read the net's files; each process loads the net once.

    The fields are those of `choose_model`, with an absolute path for processes elsewhere.
    """

    weights: Path
    sha256: str
    batch: int
    tta: bool

    def __call__(self, images: Image8) -> Float32:
        with _ONE_AT_A_TIME:  # a Dask worker may have several threads
            return _predictor(self)(images)


_ONE_AT_A_TIME = threading.Lock()


@functools.lru_cache(maxsize=1)
def _predictor(wanted: PredictAnywhere) -> Predict:
    if file_hash(wanted.weights, "sha256") != wanted.sha256:
        raise UserError(f"{wanted.weights} has changed, or is another file on this machine")
    net, _ = load_folded(wanted.weights)
    predictor = Predictor(net, wanted.batch)
    return all_turns(predictor) if wanted.tta else predictor


def validation_threshold(weights: Path, sha256: str) -> float | None:
    """The best threshold on validation for these weights, if it is known.

    Released weights have their scores next to them; for others, the last stage records which
    weights it scored. The threshold of whole tiles is preferred to that of crops.
    """
    scores_file = weights.with_name(SCORES_FILE)
    released = scores_file.is_file()  # not a pipe or a device
    try:
        scores = json.loads((scores_file if released else EVALUATED).read_bytes())
        threshold = scores.get("tiles", scores["crops"])["threshold"]
        known = (released or scores["weights_sha256"] == sha256) and 0 < threshold < 1
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return float(threshold) if known else None
