"""Assigns crops to training, validation and test."""

import dataclasses
from collections.abc import Sequence
from typing import TypeVar

from sklearn.model_selection import train_test_split

from roads.dataset.crops import Crop
from roads.params.split import SplitParams
from roads.runtime.errors import UserError
from roads.runtime.names import SPLITS

Item = TypeVar("Item", str, int)


def split_crops(crops: Sequence[Crop], params: SplitParams) -> list[Crop]:
    """Assign every crop to a split.

    `official` uses the folder that the tile came in. `tile` draws whole tiles at random. `crop`
    draws single crops, as the article did; neighbours from one tile are then in training and test,
    which inflates scores. Dropped crops keep their tile's split, or have none under `crop`.

    Args:
        crops: all windows, kept and dropped; their `split` is that of the folder.
        params: how to split, the seed, and the fractions for validation and test.

    Returns:
        The same crops in the same order.

    Raises:
        UserError: a split would have no crop.
    """
    kept = [index for index, crop in enumerate(crops) if crop.kept]
    if params.by == "official":
        split = list(crops)
    elif params.by == "tile":
        with_crops = {crops[index].tile for index in kept}
        drawn = _draw(sorted(with_crops), params)
        split = [dataclasses.replace(crop, split=drawn.get(crop.tile, "")) for crop in crops]
    else:
        drawn_crop = _draw(kept, params)
        split = [
            dataclasses.replace(crop, split=drawn_crop.get(index, ""))
            for index, crop in enumerate(crops)
        ]
    empty = [name for name in SPLITS if not any(c.kept and c.split == name for c in split)]
    if empty:
        raise UserError(
            f"no crops are left for {' and '.join(empty)} (split.by is {params.by}). "
            "Tiles without split folders need split.by=tile; see also crop.max_blank, "
            "handpick.max_blank and crop.size."
        )
    return split


def _draw(items: Sequence[Item], params: SplitParams) -> dict[Item, str]:
    """Draw the `test` and `valid` fractions of the items at random; the rest is for training."""
    tests, valids = (max(1, round(len(items) * part)) for part in (params.test, params.valid))
    if len(items) <= tests + valids:
        raise UserError(
            f"split.by={params.by} has only {len(items)} to draw from: too few for "
            f"{valids} in validation, {tests} in test and the rest in training"
        )
    others, test = train_test_split(items, test_size=tests, random_state=params.seed)
    train, valid = train_test_split(others, test_size=valids, random_state=params.seed)
    named = zip(SPLITS, (train, valid, test), strict=True)
    return {item: name for name, members in named for item in members}
