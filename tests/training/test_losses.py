import numpy as np
import pytest
from scipy import ndimage
from sklearn.metrics import f1_score, jaccard_score, log_loss

from roads.models.backend import keras
from roads.training.losses import (
    IGNORED,
    Loss,
    RoadScores,
    bce_dice,
    cldice,
    make_loss,
    soft_dice,
    soft_skeleton,
    weighted_bce,
)
from tests.tiles import road_map


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


@pytest.mark.parametrize("road_weight", [1.0, 20.0, 0.5])
def test_weighted_bce_is_a_weighted_mean(road_weight: float) -> None:
    masks, predicted = batch(2)
    weights = np.where(masks == 1, road_weight, 1).ravel()
    expected = log_loss(masks.ravel(), predicted.ravel().astype(np.float64), sample_weight=weights)
    assert value(weighted_bce(masks, predicted, road_weight)) == pytest.approx(expected, rel=1e-5)


def erode(x: np.ndarray) -> np.ndarray:
    cross = ndimage.generate_binary_structure(2, 1)
    return ndimage.grey_erosion(x, footprint=cross, mode="nearest")


def uncovered(x: np.ndarray) -> np.ndarray:
    return np.maximum(x - ndimage.grey_dilation(erode(x), (3, 3), mode="nearest"), 0)


def skeleton(x: np.ndarray, steps: int) -> np.ndarray:
    """Shit et al. 2021, algorithm 1, on one (height, width) picture."""
    found = uncovered(x)
    for _ in range(steps):
        x = erode(x)
        more = uncovered(x)
        found = found + np.maximum(more - found * more, 0)
    return found


def test_cldice_is_the_papers() -> None:
    masks, predicted = batch(3)
    road, guess = masks[..., 0].astype(np.float64), predicted[..., 0].astype(np.float64)
    of_road = np.stack([skeleton(one, 5) for one in road])
    of_guess = np.stack([skeleton(one, 5) for one in guess])
    precise = ((of_guess * road).sum() + 1) / (of_guess.sum() + 1)
    complete = ((of_road * guess).sum() + 1) / (of_road.sum() + 1)
    expected = 1 - 2 * precise * complete / (precise + complete)
    assert value(cldice(masks, predicted)) == pytest.approx(expected, rel=1e-5)


def test_a_road_of_seven_pixels_has_a_skeleton_of_one() -> None:
    road = road_map(64, 64)[None, ..., None] / np.float32(255)
    found = keras.ops.convert_to_numpy(soft_skeleton(road))[0, ..., 0]
    np.testing.assert_array_equal(np.flatnonzero(found[32]), [32 + 3])


def test_cldice_penalizes_a_gap_more_than_a_thinner_road() -> None:
    masks = road_map(64, 64)[None, ..., None] // 255
    thin, broken = masks.astype(np.float32), masks.astype(np.float32)
    thin[:, :, 32] = thin[:, :, 38] = 0
    broken[:, 20:30] = 0
    assert value(soft_dice(masks, thin)) > value(soft_dice(masks, broken))
    assert value(cldice(masks, thin)) < value(cldice(masks, broken))


@pytest.mark.parametrize("loss", [soft_dice, weighted_bce, bce_dice, cldice])
def test_predictions_on_ignored_pixels_do_not_matter(loss: Loss) -> None:
    masks, predicted = batch(4)
    other = predicted.copy()
    masks[:, :8], other[:, :8] = IGNORED, 0.99
    assert value(loss(masks, predicted)) == value(loss(masks, other))
    if loss is not cldice:  # its skeletons end where the ignored pixels begin
        cut = loss(masks[:, 8:], predicted[:, 8:])
        assert value(loss(masks, predicted)) == pytest.approx(value(cut), rel=1e-5)
    assert np.isfinite(value(loss(np.full_like(masks, IGNORED), predicted)))


def test_scores_exclude_ignored_pixels() -> None:
    masks, predicted = batch(5)
    whole, cut = RoadScores(), RoadScores()
    cut.update_state(masks[:, 8:], predicted[:, 8:])
    masks[:, :8] = IGNORED
    whole.update_state(masks, predicted)
    for name, score in whole.result().items():
        assert value(score) == value(cut.result()[name])


def test_a_loss_is_chosen_by_name_and_cldice_added() -> None:
    masks, predicted = batch(6)
    assert float(make_loss("soft_dice")(masks, predicted)) == float(soft_dice(masks, predicted))
    weighted = make_loss("weighted_bce", road_weight=3)
    assert value(weighted(masks, predicted)) == value(weighted_bce(masks, predicted, 3))
    both = make_loss("bce_dice", cldice_weight=0.5)
    expected = value(bce_dice(masks, predicted)) + 0.5 * value(cldice(masks, predicted))
    assert value(both(masks, predicted)) == pytest.approx(expected, rel=1e-6)


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
    assert result["road_fraction"] == pytest.approx(roads.mean(), rel=1e-6)


def test_scores_without_any_road_are_zero_and_reset() -> None:
    scores = RoadScores()
    scores.update_state(*batch(0))
    scores.reset_state()
    nothing = np.zeros((1, 8, 8, 1))
    scores.update_state(nothing, nothing)
    result = {name: value(score) for name, score in scores.result().items()}
    assert result == {"dice": 0, "iou": 0, "road_fraction": 0}
