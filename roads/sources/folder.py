"""The `folder` source: any directory of image and map pairs, matched by name."""

import contextlib
import functools
import itertools
import shutil
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from roads.dataset.tiles import Tile, stored_file, stored_path
from roads.imagery.geotiff import pixels_apart
from roads.imagery.pictures import read_image_and_map
from roads.parallel.pool import in_order
from roads.runtime.errors import UserError, ascii_controls, excerpt
from roads.runtime.names import MAX_NAME, some, sound_name

SPLIT_FOLDERS = {"train": "train", "training": "train", "valid": "valid", "val": "valid",
                 "validation": "valid", "test": "test", "testing": "test"}  # fmt: skip
IMAGE_FOLDERS = ("sat", "images", "image", "input")
MAP_FOLDERS = ("map", "maps", "masks", "mask", "groundtruth", "labels", "output")
LABELS = "_labels"  # Kaggle's copy: train/ and train_labels/
IMAGE_ENDINGS, MAP_ENDINGS = ("_sat",), ("_mask", "_map")  # DeepGlobe: 7_sat.jpg and 7_mask.png
PICTURES = frozenset({".tif", ".tiff", ".png", ".jpg", ".jpeg", ".bmp", ".webp"})
MOST_APART = 1.0  # pixels; a pixel's corner and centre differ by half a pixel
UNDIVIDED = "train"  # for tiles without a split; split.by=tile splits them


@dataclass(frozen=True)
class Pair:
    """An image and its map in the user's folder."""

    name: str
    split: str
    image: Path
    map: Path


def fetch(raw: Path, *, folder: Path) -> list[Tile]:
    """Copy the pairs of a folder into `raw`, decoding each to check that it is complete.

    They are copied, not linked: DVC makes cached files read-only, and later edits of a picture must
    not change the cache.

    Args:
        raw: gets `{split}/{sat,map}/NAME.*`.
        folder: a directory in one of the layouts that `find_pairs` knows.

    Raises:
        UserError: it is not a directory or has no pairs, an image or map has no partner, two tiles
            have one name, a picture is broken, or its map has another size or EXIF orientation.
    """
    whole = folder.absolute()
    if not whole.is_dir():
        raise UserError(f"download.folder: {whole} is not a directory. {_absolute(folder)}")
    pairs = find_pairs(whole)
    if not pairs:
        raise UserError(f"{_unknown(whole)} {_absolute(folder)}")
    _tell_of_others(whole, pairs)
    copies = in_order(functools.partial(_copy_pair, raw.absolute()), pairs, "copy tiles")
    tiles, apart = zip(*copies, strict=True)
    _tell_of_shifted(dict(zip(pairs, apart, strict=True)))
    return list(tiles)


def _absolute(folder: Path) -> str:
    """Advice if an experiment may look for a relative folder in its own copy of the project."""
    if folder.is_absolute():
        return ""
    return "Give an absolute path if this is an experiment with `--temp` or `--queue`."


def _copy_pair(raw: Path, pair: Pair) -> tuple[Tile, float]:
    """Copy a pair; returns the tile, and the distance of image and map in pixels by their tags."""
    read_image_and_map(pair.image, pair.map)
    stored = []
    for kind, source in (("sat", pair.image), ("map", pair.map)):
        path = stored_path(pair.split, kind, pair.name, source.suffix.lower())
        (raw / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, raw / path)
        stored.append(stored_file(raw, path))
    apart = pixels_apart(pair.image, pair.map)
    return Tile(pair.name, pair.split, image=stored[0], map=stored[1]), apart


def find_pairs(folder: Path) -> list[Pair]:
    """Match the pictures of a folder by stem, ignoring their suffixes.

    It knows these layouts. `valid` may also be `val` or `validation`, `sat` may be `images`, and
    `map` may be `masks`, `groundtruth` or `labels`:

    - `train/sat` + `train/map`, and so on for each split
    - `train` + `train_labels`, and so on, also inside `tiff/` (Kaggle's copy)
    - `sat` + `map`, without splits
    - `NAME_sat.jpg` + `NAME_mask.png`, without splits or inside `train`, `valid`, `test`

    A split without any map is left out: DeepGlobe's valid and test have none.

    Returns:
        The pairs in order of their names; empty if the folder has none of these layouts.

    Raises:
        UserError: a picture has no partner, or a name is not unique.
    """
    found = [
        (split, _named(folder, images), _named(folder, maps))
        for root in (folder, folder / "tiff")
        for split, images, maps in _paired_folders(root)
    ]
    if not any(images or maps for _, images, maps in found):
        found = [
            (split, _named(folder, inside, IMAGE_ENDINGS), _named(folder, inside, MAP_ENDINGS))
            for split, inside in [(UNDIVIDED, folder), *_split_folders(folder)]
        ]
    pairs: list[Pair] = []
    alone: list[Path] = []
    for split, images, maps in found:
        if maps:
            both, either = images.keys() & maps.keys(), images.keys() ^ maps.keys()
            pairs += [Pair(name, split, images[name], maps[name]) for name in both]
            alone += sorted((images | maps)[name].relative_to(folder) for name in either)
    if alone:
        raise UserError(
            f"{folder}: {len(alone)} pictures have no partner of the same name: "
            f"{some([str(path) for path in alone])}. {_near_miss(alone)}"
            "Add the missing ones or remove these."
        )
    counts = Counter(pair.name for pair in pairs)
    twice = sorted(name for name, count in counts.items() if count > 1)
    if twice:
        raise UserError(f"{folder} has the same names in two splits: {some(twice)}. Rename.")
    return sorted(pairs, key=lambda pair: pair.name)


def _unknown(folder: Path) -> str:
    """The message about a folder without pairs; it names a similar layout, if there is one."""
    told = (
        f"{folder} has no pairs in a known layout: train/sat + train/map, train + "
        "train_labels, sat + map, or NAME_sat.jpg + NAME_mask.png."
    )
    for inside in sorted(path for path in folder.iterdir() if path.is_dir()):
        with contextlib.suppress(UserError):
            if find_pairs(inside):
                return f"{told} {inside} has pairs: set download.folder to it."
    stems: dict[Path, set[str]] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in PICTURES:
            stems.setdefault(path.parent, set()).add(path.stem)
    for one, other in itertools.combinations(stems, 2):
        if one.parent == other.parent and stems[one] & stems[other]:
            return (
                f"{told} {one} and {other} have pictures with the same names: rename the folder of "
                f"the images to {IMAGE_FOLDERS[0]}, and that of the maps to {MAP_FOLDERS[0]}."
            )
    return told


def _near_miss(alone: Sequence[Path]) -> str:
    """A sentence about two pictures that were probably meant to be a pair, if there are any."""
    likely: dict[str, Path] = {}
    for path in alone:
        stem = unicodedata.normalize("NFC", path.stem).casefold()
        for ending in (*IMAGE_ENDINGS, *MAP_ENDINGS):
            stem = stem.removesuffix(ending)
        other = likely.setdefault(stem, path)
        if other.parent != path.parent:
            return (
                f"{other} and {path} differ only in case, in how an accent is written, or in an "
                f"ending such as {MAP_ENDINGS[0]}: give both the same name. "
            )
    return ""


def _tell_of_others(folder: Path, pairs: Sequence[Pair]) -> None:
    """Report pictures, at any depth, that belong to no pair."""
    taken = {path.resolve() for pair in pairs for path in (pair.image, pair.map)}
    others = [
        ascii_controls(str(path.relative_to(folder)))
        for path in sorted(folder.rglob("[!.]*"))
        if path.suffix.lower() in PICTURES and path.is_file() and path.resolve() not in taken
    ]
    if others:
        print(
            f"download: {len(others)} pictures in {folder} are left out: they have no pair, or "
            f"their split has no maps: {some(others)}",
            file=sys.stderr,
        )


def _tell_of_shifted(apart: dict[Pair, float]) -> None:
    """Report pairs whose image and map are at different places by their own tags."""
    shifted = [
        f"{pair.image.name} and {pair.map.name} by {pixels:,.0f} pixels"
        for pair, pixels in apart.items()
        if pixels > MOST_APART
    ]
    if shifted:
        print(
            f"download: by their GeoTIFF tags, {len(shifted)} images are shifted against their "
            f"maps: {some(shifted)}. They are paired pixel by pixel anyway",
            file=sys.stderr,
        )


def _split_folders(root: Path) -> Iterator[tuple[str, Path]]:
    for name, split in SPLIT_FOLDERS.items():
        if (root / name).is_dir():
            yield split, root / name


def _paired_folders(root: Path) -> Iterator[tuple[str, Path, Path]]:
    """(split, folder of images, folder of maps) for every pair of folders under `root`."""
    for split, inside in [(UNDIVIDED, root), *_split_folders(root)]:
        images = [inside / name for name in IMAGE_FOLDERS if (inside / name).is_dir()]
        maps = [inside / name for name in MAP_FOLDERS if (inside / name).is_dir()]
        if images and maps:
            yield split, images[0], maps[0]
    for split, images_of_split in _split_folders(root):
        labels = images_of_split.with_name(images_of_split.name + LABELS)
        if labels.is_dir():
            yield split, images_of_split, labels


def _pictures(folder: Path, directory: Path) -> Iterator[Path]:
    for path in sorted(directory.iterdir()):
        if path.suffix.lower() not in PICTURES or path.name.startswith(".") or path.is_dir():
            continue
        if not path.is_file():  # reading a pipe would block, and a link may be broken
            raise UserError(f"{path} is not a file. Remove it.")
        if not path.resolve().is_relative_to(folder.resolve()):
            raise UserError(f"{path} is a link to a file outside {folder}. Copy the file there.")
        yield path


def _named(folder: Path, directory: Path, endings: Sequence[str] = ("",)) -> dict[str, Path]:
    """The pictures whose stems have one of the endings, by the stem without it."""
    found: dict[str, Path] = {}
    for path in _pictures(folder, directory):
        for ending in filter(path.stem.endswith, endings):
            name = path.stem.removesuffix(ending)
            if not sound_name(name):
                raise UserError(
                    f"{excerpt(str(path))}: a tile's name must be 1 to {MAX_NAME} bytes of "
                    "printable characters and not begin with a dot. Rename the file."
                )
            if name in found:
                raise UserError(
                    f"{found[name]} and {path.name} have the same name. Remove one of them."
                )
            found[name] = path
    return found
