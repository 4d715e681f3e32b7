"""What of a user's files the project reads: a valid example of each, and the code that reads it."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from roads.dataset.crops import CROPS_FILE, PIXELS_FILE, Crop, read_crops, read_pixels, write_crops
from roads.dataset.handpicked import kept_names
from roads.dataset.label_notes import ignored_pixels, read_notes
from roads.dataset.packs import IMAGES_FILE, MASKS_FILE, ROWS_FILE, PackReader, read_places
from roads.dataset.stacks import read_stack, write_stack
from roads.dataset.tiles import TILES_FILE, read_tiles
from roads.imagery.blank import blank_fraction
from roads.imagery.pictures import read_image, read_map
from roads.mapping.rasters import open_raster
from roads.models.unet import build_unet
from roads.models.weights import WEIGHTS_FILE, Description, description_path, load_model, save_model
from roads.params.whole import read_params
from roads.runtime.names import SPLITS
from roads.sources.massachusetts import read_names
from stages.handpick_filter import read_picks
from tests.packed import unet_params, write_pack
from tests.pictures import write_tiff
from tests.project import ROOT
from tests.tiles import picture, road_map, save_tiles

SIDE = 12  # pixels: in small files damage hits what they say of themselves
TINY = {"filters": 1, "depth": 2}


@dataclass(frozen=True)
class Subject:
    """A kind of file.

    Attributes:
        share: how many of 100 inputs are of this kind.
        make: writes valid files into an empty folder.
        damaged: which of them are damaged, one at a time; a pattern.
        read: reads the damaged file, in its folder, as the project does.
        text: whether damage to words makes sense.
    """

    share: int
    make: Callable[[Path], None]
    damaged: str
    read: Callable[[Path], Any]
    text: bool = False


def _encoded(pixels: np.ndarray, mode: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(stream, **options)
    return stream.getvalue()


def _make_pictures(folder: Path, pixels: np.ndarray, modes: tuple[str, ...]) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for mode in modes:
        compressions = (None, "tiff_lzw", "tiff_adobe_deflate", "packbits")
        for compression in (*compressions, *(["group4", "group3"] if mode == "1" else [])):
            whole = _encoded(pixels, mode, format="TIFF", compression=compression)
            (folder / f"{mode}_{compression}.tif").write_bytes(whole)
        (folder / f"{mode}.png").write_bytes(_encoded(pixels, mode, format="PNG", exif=exif))
        (folder / f"{mode}.bmp").write_bytes(_encoded(pixels, mode, format="BMP"))
    colours = _encoded(pixels, "RGB", format="JPEG", exif=exif)
    (folder / "baseline.jpg").write_bytes(colours)
    whole = _encoded(pixels, "L", format="JPEG", progressive=True)
    (folder / "progressive.jpg").write_bytes(whole)
    (folder / "cmyk.jpg").write_bytes(_encoded(pixels, "CMYK", format="JPEG"))
    whole = _encoded(pixels, "RGB", format="TIFF", compression="jpeg")
    (folder / "jpeg.tif").write_bytes(whole)
    (folder / "lossy.webp").write_bytes(_encoded(pixels, "RGB", format="WEBP"))
    (folder / "lossless.webp").write_bytes(_encoded(pixels, "RGB", format="WEBP", lossless=True))


def _make_rasters(folder: Path) -> None:
    """Of the formats that only `roads predict` reads, or that GDAL decodes there."""
    pixels = picture(SIDE, SIDE)
    for name in ("a.jp2", "a.j2k", "a.bmp", "a.webp"):
        Image.fromarray(pixels).save(folder / name)
    Image.fromarray(pixels).save(folder / "tiled.jp2", tile_size=(8, 8))
    write_tiff(folder / "float.tif", pixels.astype(np.float32), compress="lzw")
    write_tiff(folder / "alpha.tif", np.dstack([pixels, pixels[..., :1]]), alpha="YES")


def _read_raster(path: Path) -> None:
    with open_raster(path) as raster:
        image, missing = raster.read_rows(0, min(raster.height, 64))
    assert (image[missing] == 255).all()


def _make_images(folder: Path) -> None:
    _make_pictures(folder, picture(SIDE, SIDE), ("RGB", "P"))


def _make_maps(folder: Path) -> None:
    _make_pictures(folder, road_map(SIDE, SIDE, 8), ("L", "1"))


def _read_image(path: Path) -> None:
    image = read_image(path)
    assert image.ndim == 3
    assert image.shape[2] == 3
    assert image.dtype == np.uint8
    blank_fraction(image)


def _read_map(path: Path) -> None:
    map_ = read_map(path)
    assert map_.ndim == 2
    assert map_.dtype == np.uint8


def _read_stack(path: Path) -> None:
    list(read_stack(path))


def _make_stacks(folder: Path) -> None:
    write_stack(folder / "images.tif", [picture(SIDE, SIDE, seed) for seed in range(3)])
    write_stack(folder / "masks.tif", [road_map(SIDE, SIDE, 8) > 0] * 3)


def _make_crops(folder: Path) -> None:
    crops = [
        Crop(f"t{tile}", SPLITS[tile], page, 32 + 16 * page, 0, 0.25, "" if page >= 0 else "blank")
        for tile in range(3)
        for page in (0, -1, 1)
    ]
    write_crops(folder / CROPS_FILE, crops)


def _read_crops(path: Path) -> None:
    for crop in read_crops(path):
        _stays_inside(path.parent, f"{crop.tile}.tif")
        assert crop.kept == (crop.page >= 0)


def _read_tiles(path: Path) -> None:
    for tile in read_tiles(path.parent):
        _stays_inside(path.parent, tile.image.path)
        _stays_inside(path.parent, tile.map.path)
        assert tile.split in SPLITS


def _read_names(path: Path) -> None:
    for split, name in read_names(path):
        _stays_inside(path.parent, f"{split}/sat/{name}.tiff")


def _stays_inside(folder: Path, path: str) -> None:
    assert "\0" not in path
    assert (folder / path).resolve().is_relative_to(folder.resolve())


def _table(name: str, text: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        (folder / name).write_text(text, encoding="utf-8")

    return make


def _make_params(folder: Path) -> None:
    (folder / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())


def _read_params(path: Path) -> None:
    repr(read_params(path))


def _make_notes(folder: Path) -> None:
    save_tiles(folder / "raw", SIDE, 1)
    text = "name,top,left,bottom,right,reason\ntrain0,0,3,9,12,no road\ntest0,4,4,8,8,\n"
    (folder / "notes.csv").write_text(text, encoding="utf-8")


def _read_notes(path: Path) -> None:
    for name, boxes in read_notes(path, path.parent / "raw").items():
        assert ignored_pixels(boxes, (SIDE, SIDE)).any(), name


def _make_pack(folder: Path) -> None:
    write_pack(folder, 8, 2, 1, 1)


def _read_pack(path: Path) -> None:
    with PackReader(path.parent) as pack:
        for split in SPLITS:
            images, masks = pack.read(split, range(pack.rows(split)))
            assert images.dtype == masks.dtype == np.uint8
            assert masks.max(initial=0) <= 1


def _make_model(folder: Path) -> None:
    net = unet_params(**TINY)
    description = Description(
        unet=net, precision="float32", backend="tensorflow", device="CPU", versions={"keras": "3"},
        crop_size=16, parameters=0, training={"seed": 3},
    )  # fmt: skip
    save_model(build_unet(net), folder / WEIGHTS_FILE, description)


def _read_model(path: Path) -> None:
    model, _ = load_model(path.with_name(WEIGHTS_FILE))
    for weight in model.get_weights():
        assert np.isfinite(weight).all()


SUBJECTS = {
    "image": Subject(14, _make_images, "*", _read_image),
    "raster": Subject(10, _make_rasters, "*", _read_raster),
    "map": Subject(12, _make_maps, "*", _read_map),
    "stack": Subject(8, _make_stacks, "*", _read_stack),
    "notes": Subject(2, _make_notes, "notes.csv", _read_notes, text=True),
    "handpicks": Subject(
        2,
        _table(
            "handpicks.csv", "name,decision,reason\nt0,keep,fine\nt1,drop,\"fog, and 'haze'\"\n"
        ),
        "handpicks.csv",
        lambda path: read_picks(path),
        text=True,
    ),
    "handpicked": Subject(
        4,
        _table(
            "handpicked.csv",
            "name,split,blank,keep,why\nt0,train,0.0000,yes,\nt1,test,0.5000,no,blank over 0.25\n",
        ),
        "handpicked.csv",
        lambda path: kept_names(path),
        text=True,
    ),
    "index": Subject(5, _make_crops, CROPS_FILE, _read_crops, text=True),
    "pixels": Subject(
        3,
        _table(PIXELS_FILE, "tile,page,grey,road\nt0,0,0,12\nt0,1,3,0\n"),
        PIXELS_FILE,
        lambda path: read_pixels(path),
        text=True,
    ),
    "rows": Subject(
        3,
        _table(ROWS_FILE, "split,row,tile,page,top,left\ntrain,0,t0,0,0,0\ntest,0,t1,1,0,256\n"),
        ROWS_FILE,
        lambda path: read_places(path.parent),
        text=True,
    ),
    "tiles": Subject(
        5,
        lambda folder: save_tiles(folder, SIDE, 1),
        TILES_FILE,
        _read_tiles,
        text=True,
    ),
    "names": Subject(
        4,
        _table("names.csv", "split,name\ntrain,10078660_15\nvalid,10228660_15\ntest,1_15\n"),
        "names.csv",
        _read_names,
        text=True,
    ),
    "params": Subject(8, _make_params, "params.yaml", _read_params, text=True),
    "pack": Subject(10, _make_pack, "*.h5", _read_pack),
    "weights": Subject(8, _make_model, WEIGHTS_FILE, _read_model),
    "description": Subject(
        2, _make_model, description_path(Path(WEIGHTS_FILE)).name, _read_model, text=True
    ),
}
assert sum(subject.share for subject in SUBJECTS.values()) == 100
assert (IMAGES_FILE, MASKS_FILE) == ("images.h5", "masks.h5")
