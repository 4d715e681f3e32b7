"""Which crops train, which validate, which test."""

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
    """Give every crop its split.

    `official` keeps the folder that the tile came in. `tile` draws whole tiles. `crop` draws
    single crops, as the article did: neighbours from one tile then train and test, so its scores
    flatter. Dropped crops keep their tile's split, or have none under `crop`.

    Args:
        crops: all windows, kept and dropped; their `split` is the folder's.
        params: how to split, the seed, and the fractions of all that validate and test.

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
            "Tiles without folders of their own need split.by=tile; see also crop.max_blank, "
            "handpick.max_blank and crop.size."
        )
    return split


def _draw(items: Sequence[Item], params: SplitParams) -> dict[Item, str]:
    """Draw `test` and `valid` fractions of the items; the rest trains."""
    tests, valids = (max(1, round(len(items) * part)) for part in (params.test, params.valid))
    if len(items) <= tests + valids:
        raise UserError(
            f"split.by={params.by} has {len(items)} to draw from, too few for "
            f"{valids} to validate, {tests} to test and the rest to train"
        )
    others, test = train_test_split(items, test_size=tests, random_state=params.seed)
    train, valid = train_test_split(others, test_size=valids, random_state=params.seed)
    named = zip(SPLITS, (train, valid, test), strict=True)
    return {item: name for name, members in named for item in members}
