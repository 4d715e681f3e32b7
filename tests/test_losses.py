import numpy as np
import pytest
from sklearn.metrics import f1_score, jaccard_score, log_loss

from roads.backend import keras
from roads.losses import RoadScores, bce_dice, soft_dice


def batch(seed: int, count: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Masks (count, 16, 16, 1) of 0/1 uint8 and probabilities of the same shape."""
    draw = np.random.default_rng(seed)
    masks = (draw.random((count, 16, 16, 1)) < 0.2).astype(np.uint8)
    return masks, draw.random((count, 16, 16, 1), np.float32)


def value(tensor: object) -> float:
    return float(keras.ops.convert_to_numpy(tensor))


def test_soft_dice_is_the_articles_over_the_whole_batch() -> None:
    masks, predicted = batch(0)
    both = (masks * predicted.astype(np.float64)).sum()
    expected = 1 - (2 * both + 1) / (masks.sum() + predicted.sum() + 1)
    assert value(soft_dice(masks, predicted)) == pytest.approx(expected, rel=1e-6)


def test_soft_dice_is_zero_for_the_mask_itself_and_where_there_is_nothing() -> None:
    masks, _ = batch(0)
    assert value(soft_dice(masks, masks.astype(np.float32))) == pytest.approx(0, abs=1e-6)
    nothing = np.zeros_like(masks)
    assert value(soft_dice(nothing, nothing.astype(np.float32))) == 0


def test_soft_dice_adds_up_in_float32() -> None:
    ones = np.ones((1, 64, 64, 1), np.uint8)  # 4,096 is beyond what bfloat16 counts one by one
    predicted = keras.ops.cast(np.full(ones.shape, 0.5, np.float32), "bfloat16")
    expected = 1 - (4096 + 1) / (4096 + 2048 + 1)
    assert value(soft_dice(ones, predicted)) == pytest.approx(expected, rel=1e-6)


def test_bce_dice_adds_the_cross_entropy() -> None:
    masks, predicted = batch(1)
    entropy = log_loss(masks.ravel(), predicted.ravel().astype(np.float64))
    expected = entropy + value(soft_dice(masks, predicted))
    assert value(bce_dice(masks, predicted)) == pytest.approx(expected, rel=1e-5)


def test_scores_pool_the_counts_of_all_batches() -> None:
    scores = RoadScores()
    batches = [batch(0), batch(1), batch(2, count=1)]
    for masks, predicted in batches:
        scores.update_state(masks, predicted)
    masks = np.concatenate([m.ravel() for m, _ in batches])
    roads = np.concatenate([p.ravel() for _, p in batches]) > 0.5
    result = {name: value(score) for name, score in scores.result().items()}
    assert result["dice"] == pytest.approx(f1_score(masks, roads), rel=1e-6)
    assert result["iou"] == pytest.approx(jaccard_score(masks, roads), rel=1e-6)


def test_scores_without_any_road_are_zero_and_reset() -> None:
    scores = RoadScores()
    scores.update_state(*batch(0))
    scores.reset_state()
    nothing = np.zeros((1, 8, 8, 1))
    scores.update_state(nothing, nothing)
    assert {name: value(score) for name, score in scores.result().items()} == {"dice": 0, "iou": 0}
