"""Losses over a batch of road probabilities, and the scores in the training log.

The batch is that of all devices together. A mask's pixels are 0, 1 or IGNORED; the latter count in
no loss or score.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from roads.models.backend import keras

ops = keras.ops
Loss = Callable[[Any, Any], Any]
SMOOTH = 1.0  # the article's; prevents a division by zero for a batch without roads
IGNORED = 255  # in a mask: not known whether there is road
SKELETON_STEPS = 5  # erosions: 3 thin a 7-pixel road to one pixel, 5 also its wider crossings


def soft_dice(masks: Any, predicted: Any) -> Any:
    """1 - (2·Σ(mask·p) + 1) / (Σmask + Σp + 1), sums over the whole batch.

    The article's `soft_dice_loss` (Paulymorphous/skeyenet, Src/loss_functions.py), after
    Milletari et al. 2016 without their squares. (`keras.losses.Dice` has no such smoothing.)

    Args:
        masks: (n, height, width, 1), 0, 1 or IGNORED, of any dtype.
        predicted: (n, height, width, 1), probabilities.

    Returns:
        A float32 scalar from 0 (perfect) to 1.
    """
    road, predicted, _ = _counted(masks, predicted)
    both = ops.sum(road * predicted)
    return 1 - (2 * both + SMOOTH) / (ops.sum(road) + ops.sum(predicted) + SMOOTH)


def weighted_bce(masks: Any, predicted: Any, road_weight: float = 1.0) -> Any:
    """Mean binary cross-entropy in which a road pixel counts `road_weight` times.

    Arguments and result as for `soft_dice`. It is a weighted mean, Σ(w·entropy) / Σw, so that
    the weight changes the balance of the classes but not the size of the steps.
    """
    road, predicted, counted = _counted(masks, predicted)
    weights = counted * (1 + (road_weight - 1) * road)
    entropy = ops.binary_crossentropy(road, predicted)
    return ops.divide_no_nan(ops.sum(weights * entropy), ops.sum(weights))


def bce_dice(masks: Any, predicted: Any) -> Any:
    """Mean binary cross-entropy plus `soft_dice`; arguments and result as for the latter."""
    return weighted_bce(masks, predicted) + soft_dice(masks, predicted)


def cldice(masks: Any, predicted: Any) -> Any:
    """1 - soft clDice, which rewards unbroken roads more than their exact width.

    Shit et al., *clDice - a Novel Topology-Preserving Loss Function for Tubular Structure
    Segmentation*, CVPR 2021: the harmonic mean of the fraction of the predicted skeleton that lies
    in the mask and the fraction of the mask's skeleton that is predicted. Sums over the whole
    batch; arguments and result as for `soft_dice`.
    """
    road, predicted, _ = _counted(masks, predicted)
    of_road, of_predicted = soft_skeleton(road), soft_skeleton(predicted)
    precise = (ops.sum(of_predicted * road) + SMOOTH) / (ops.sum(of_predicted) + SMOOTH)
    complete = (ops.sum(of_road * predicted) + SMOOTH) / (ops.sum(of_road) + SMOOTH)
    return 1 - 2 * precise * complete / (precise + complete)


def soft_skeleton(x: Any, steps: int = SKELETON_STEPS) -> Any:
    """The soft skeleton of (n, height, width, 1) float32 from 0 to 1.

    Shit et al. 2021, algorithm 1, with erosion over a cross of 5 pixels as in their code.
    """
    skeleton = ops.relu(x - _open(x))
    for _ in range(steps):
        x = _erode(x)
        uncovered = ops.relu(x - _open(x))
        skeleton = skeleton + ops.relu(uncovered - skeleton * uncovered)
    return skeleton


def make_loss(name: str, road_weight: float = 1.0, cldice_weight: float = 0.0) -> Loss:
    """The loss of that name, as a function for Keras.

    Args:
        name: soft_dice, weighted_bce or bce_dice.
        road_weight: for weighted_bce.
        cldice_weight: weight of `cldice`, which is added; 0 turns it off.
    """
    losses: dict[str, Loss] = {
        "soft_dice": soft_dice,
        "weighted_bce": partial(weighted_bce, road_weight=road_weight),
        "bce_dice": bce_dice,
    }
    loss = losses[name]
    if cldice_weight == 0:
        return loss
    return lambda masks, predicted: (
        loss(masks, predicted) + cldice_weight * cldice(masks, predicted)
    )


def _counted(masks: Any, predicted: Any) -> tuple[Any, Any, Any]:
    """Road, prediction and which pixels count, as float32; all are 0 where the mask is IGNORED."""
    masks, predicted = ops.cast(masks, "float32"), ops.cast(predicted, "float32")
    counted = ops.cast(ops.not_equal(masks, IGNORED), "float32")
    return masks * counted, predicted * counted, counted


def _erode(x: Any) -> Any:
    tall = ops.max_pool(-x, (3, 1), strides=1, padding="same")
    wide = ops.max_pool(-x, (1, 3), strides=1, padding="same")
    return -ops.maximum(tall, wide)


def _open(x: Any) -> Any:
    return ops.max_pool(_erode(x), 3, strides=1, padding="same")


class RoadScores(keras.metrics.Metric):
    """Dice and IoU of the road class at a threshold, from counts pooled over an epoch.

    Both are 0 if neither mask nor prediction has a road pixel. `road_fraction` is the fraction of
    pixels predicted as road, exactly 0 or 1 if all predictions are the same. The counts are
    float32, so beyond 16 million road pixels the last digits are approximate.
    """

    def __init__(self, threshold: float = 0.5, name: str = "road_scores"):
        super().__init__(name=name, dtype="float32")
        self.threshold = threshold
        self.true_positives = self.add_weight(initializer="zeros", name="true_positives")
        self.marked = self.add_weight(initializer="zeros", name="marked")
        self.predicted = self.add_weight(initializer="zeros", name="predicted")
        self.pixels = self.add_weight(initializer="zeros", name="pixels")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        masks, roads, counted = _counted(y_true, y_pred > self.threshold)
        self.true_positives.assign_add(ops.sum(masks * roads))
        self.marked.assign_add(ops.sum(masks) + ops.sum(roads))
        self.predicted.assign_add(ops.sum(roads))
        self.pixels.assign_add(ops.sum(counted))

    def result(self) -> dict[str, Any]:
        either = self.marked - self.true_positives
        return {
            "dice": ops.divide_no_nan(2 * self.true_positives, self.marked),
            "iou": ops.divide_no_nan(self.true_positives, either),
            "road_fraction": ops.divide_no_nan(self.predicted, self.pixels),
        }
