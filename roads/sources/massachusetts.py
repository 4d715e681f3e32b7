"""Downloads the Massachusetts Roads Dataset (V. Mnih, PhD thesis, University of Toronto, 2013)."""

import itertools
import re
import sys
from pathlib import Path

from roads.dataset.tiles import StoredFile, Tile, stored_path
from roads.params.download import DownloadParams
from roads.runtime.errors import UserError, excerpt, one_line
from roads.runtime.files import read_csv
from roads.runtime.names import SPLITS
from roads.sources.cache import Cache
from roads.sources.http import Downloader

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
SUFFIXES = {"sat": ".tiff", "map": ".tif"}
NAMES_TOLD = 20  # of missing tiles in a message


def fetch(raw: Path, names: Path, params: DownloadParams, cache: Path) -> list[Tile]:
    """Link the tiles of a list into `raw`, downloading those that are not in the cache.

    Args:
        raw: gets `{split}/{sat,map}/NAME.{tiff,tif}`.
        names: CSV with the columns split and name.
        params: the address, the number of tiles, and how to download.
        cache: absolute folder for complete and partial files, shared by all runs.

    Returns:
        the tiles whose image and map both decode and have the same size, in the list's order.

    Raises:
        UserError: the list or the address is wrong, or tiles cannot be downloaded.
    """
    wanted = read_names(names, params.limit)
    downloader = Downloader(params)
    store = Cache(cache, downloader)
    reasons = store.fill([path for tile in wanted for path in _paths(*tile)], params.connections)
    found = {name: _tile(store, split, name, reasons) for split, name in wanted}
    tiles = [tile for tile in found.values() if isinstance(tile, Tile)]
    missing = [(name, why) for name, why in found.items() if isinstance(why, str)]
    if missing:
        report = _report(missing, len(wanted), downloader.base_url)
        if not (params.allow_missing and tiles):
            way_out = "Downloads so far are kept: run `dvc repro download` again"
            if tiles:
                way_out += ", or set download.allow_missing to continue without them"
            raise UserError(f"{report}. {way_out}.")
        print(f"warning: {report}", file=sys.stderr)
    for tile in tiles:
        for path in (tile.image.path, tile.map.path):
            store.link(path, raw / path)
    return tiles


def read_names(names: Path, limit: int | None = None) -> list[tuple[str, str]]:
    """The (split, name) pairs of a list, in its order; the first `limit` of each split.

    Raises:
        UserError: the list is missing, empty or not such a CSV file, or a row is wrong or repeated.
    """
    try:
        rows = read_csv(names, ["split", "name"])
        if not rows:
            raise ValueError("it has no rows")
    except FileNotFoundError:
        raise UserError(f"{names} is missing; restore it: `git restore {names}`") from None
    except ValueError as error:
        raise UserError(f"{names}: {one_line(error)}. Restore it: `git restore {names}`") from None
    pairs: dict[str, str] = {}
    for line, row in rows:
        split, name = row["split"], row["name"]
        if split not in SPLITS or not NAME.fullmatch(name):
            raise UserError(
                f"{names}, line {line}: {excerpt(f'{split},{name}')} should be one of "
                f"{', '.join(SPLITS)}, a comma, and a name of letters, digits, _ and -."
            )
        if name in pairs:
            raise UserError(f"{names}, line {line}: duplicate name {name}. Keep one of them.")
        pairs[name] = split
    numbers = {split: itertools.count() for split in SPLITS}
    return [(s, name) for name, s in pairs.items() if limit is None or next(numbers[s]) < limit]


def _paths(split: str, name: str) -> list[str]:
    return [stored_path(split, kind, name, suffix) for kind, suffix in SUFFIXES.items()]


def _tile(store: Cache, split: str, name: str, reasons: dict[str, str]) -> Tile | str:
    """The tile, or why it is incomplete."""
    image_path, map_path = _paths(split, name)
    image, map_ = store.held(image_path), store.held(map_path)
    if image is None or map_ is None:
        kind, path = ("image", image_path) if image is None else ("map", map_path)
        return f"{kind}: {reasons.get(path, 'gone from the cache')}"
    if (image.height, image.width) != (map_.height, map_.width):
        store.drop(image_path)
        store.drop(map_path)
        return f"image {image.width}×{image.height}, map {map_.width}×{map_.height} pixels"
    return Tile(
        name=name,
        split=split,
        image=StoredFile(image_path, image.bytes, image.sha256),
        map=StoredFile(map_path, map_.bytes, map_.sha256),
    )


def _report(missing: list[tuple[str, str]], total: int, base_url: str) -> str:
    """One line: the number of missing tiles, and the first names, grouped by reason."""
    groups = [
        f"{', '.join(name for name, _ in group)} ({reason})"
        for reason, group in itertools.groupby(missing[:NAMES_TOLD], key=lambda tile: tile[1])
    ]
    if len(missing) > NAMES_TOLD:
        groups.append(f"and {len(missing) - NAMES_TOLD} more")
    reasons = "; ".join(groups)
    return f"{len(missing)} of {total} tiles cannot be downloaded from {base_url}: {reasons}"
