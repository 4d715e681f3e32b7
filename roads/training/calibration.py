"""Temperature scaling: makes a trained net's probabilities as likely as they say.

Guo et al. 2017, *On Calibration of Modern Neural Networks*, section 4.2: the logits are divided by
one temperature, which minimizes the cross-entropy on validation. Which of two pixels is more
likely road, and which are above 0.5, stay the same.
"""

import math

import numpy as np
from scipy.optimize import minimize_scalar

from roads.models.backend import keras
from roads.models.unet import build_unet
from roads.models.weights import TEMPERATURES, Description
from roads.runtime.arrays import Int64
from roads.training.batches import CropBatches
from roads.training.losses import IGNORED

STEPS = 32  # cells of the histogram for each unit of a logit
LARGEST = 17  # logit; float32 probabilities next to 1 end at 16.6


def fit_temperature(model: keras.Model, valid: CropBatches) -> float:
    """The temperature that fits a net's probabilities to the validation crops best.

    Args:
        model: from `build_unet`, on this process's device.
        valid: the crops; IGNORED pixels do not count. A last, shorter batch is left out, since it
            would need another compilation.

    Returns:
        A number within TEMPERATURES, rounded to four digits; 1 if the crops have no road.
    """
    size = min(valid.batch_size, valid.count)
    counts = np.zeros((2, 2 * LARGEST * STEPS + 1), np.int64)  # other pixels and road, by logit
    for start in range(0, valid.count - size + 1, size):
        images, masks = valid.augmented(np.arange(start, start + size))
        known = masks != IGNORED
        predicted = np.asarray(model.predict_on_batch(images), np.float64)[known]
        likely = np.clip(predicted, 2.0**-24, 1 - 2.0**-24)
        cells = np.rint((np.log(likely / (1 - likely)) + LARGEST) * STEPS).astype(np.int64)
        cells += counts.shape[1] * masks[known].astype(np.int64)
        counts += np.bincount(cells, minlength=counts.size).reshape(counts.shape)
    return minimize(counts) if counts[1].any() else 1.0


def local_copy(net: keras.Model, described: Description) -> keras.Model:
    """A net with the same weights on this process alone, which other processes need not join."""
    copy = build_unet(described.unet, described.precision)
    copy.set_weights(net.get_weights())
    return copy


def minimize(counts: Int64) -> float:
    """The temperature with the least cross-entropy, from counts of pixels by class and logit."""
    logits = np.arange(-LARGEST * STEPS, LARGEST * STEPS + 1) / STEPS

    def cross_entropy(log_temperature: float) -> float:
        scaled = logits / math.exp(log_temperature)
        other, road = counts
        return float(other @ np.logaddexp(0, scaled) + road @ np.logaddexp(0, -scaled))

    bounds = tuple(map(math.log, TEMPERATURES))
    return round(math.exp(minimize_scalar(cross_entropy, bounds=bounds, method="bounded").x), 4)
