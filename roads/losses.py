"""Losses over a batch of road probabilities, and the scores that the training log shows."""

from collections.abc import Callable
from typing import Any

from roads.backend import keras

ops = keras.ops
SMOOTH = 1.0  # the article's; keeps a batch without roads from dividing by zero


def soft_dice(masks: Any, predicted: Any) -> Any:
    """1 - (2·Σ(mask·p) + 1) / (Σmask + Σp + 1), sums over the whole batch.

    The article's `soft_dice_loss` (Paulymorphous/skeyenet, Src/loss_functions.py), after
    Milletari et al. 2016 without their squares.

    Args:
        masks: (n, height, width, 1), 0 or 1 of any dtype.
        predicted: (n, height, width, 1), probabilities.

    Returns:
        A float32 scalar from 0 (perfect) to 1.
    """
    masks, predicted = ops.cast(masks, "float32"), ops.cast(predicted, "float32")
    both = ops.sum(masks * predicted)
    return 1 - (2 * both + SMOOTH) / (ops.sum(masks) + ops.sum(predicted) + SMOOTH)


def bce_dice(masks: Any, predicted: Any) -> Any:
    """Mean binary cross-entropy plus `soft_dice`; arguments and result as there."""
    masks, predicted = ops.cast(masks, "float32"), ops.cast(predicted, "float32")
    return ops.mean(ops.binary_crossentropy(masks, predicted)) + soft_dice(masks, predicted)


LOSSES: dict[str, Callable[[Any, Any], Any]] = {"soft_dice": soft_dice, "bce_dice": bce_dice}


class RoadScores(keras.metrics.Metric):
    """Dice and IoU of the road class at a threshold, from counts pooled over an epoch.

    Both are 0 where neither mask nor prediction holds a road pixel. The counts are kept in
    float32, so over more than 16 million pixels of road the last digits are approximate.
    """

    def __init__(self, threshold: float = 0.5, name: str = "road_scores"):
        super().__init__(name=name, dtype="float32")
        self.threshold = threshold
        self.hits = self.add_weight(initializer="zeros", name="hits")
        self.marked = self.add_weight(initializer="zeros", name="marked")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        masks = ops.cast(y_true, "float32")
        roads = ops.cast(y_pred > self.threshold, "float32")
        self.hits.assign_add(ops.sum(masks * roads))
        self.marked.assign_add(ops.sum(masks) + ops.sum(roads))

    def result(self) -> dict[str, Any]:
        either = self.marked - self.hits
        return {
            "dice": ops.divide_no_nan(2 * self.hits, self.marked),
            "iou": ops.divide_no_nan(self.hits, either),
        }
