"""Metres per pixel on the ground, against geodesic formulas and known places."""

import math
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio import Affine
from rasterio.crs import CRS

from roads.mapping.georeference import lonlat_converter, metres_per_pixel, read_world_file
from roads.mapping.opening import quiet_gdal

FOOT = 1200 / 3937  # US survey foot in metres


@pytest.mark.parametrize(
    ("epsg", "transform", "metres"),
    [
        (32619, Affine(0.5, 0, 300_000, 0, -0.5, 4_690_000), (0.5, 0.5)),
        (32619, Affine(0.5, 0, 300_000, 0, -2, 4_690_000), (2, 0.5)),
        (32619, Affine(0.866, -0.5, 300_000, -0.5, -0.866, 4_690_000), (1, 1)),
        (2249, Affine(1, 0, 750_000, 0, -1, 2_950_000), (FOOT, FOOT)),  # Massachusetts, US feet
        (3857, Affine(2, 0, -7_900_000, 0, -2, 5_200_000), (1.4770, 1.4824)),  # at 42.26° north
        (4326, Affine(1e-5, 0, 7, 0, -1e-5, 60), (1.1141, 0.5580)),
        (4326, Affine(1e-5, 0, 180 - 1e-5, 0, -1e-5, 0), (1.1057, 1.1132)),  # over the 180th
    ],
)
def test_metres_on_the_ground(epsg: int, transform: Affine, metres: tuple[float, float]) -> None:
    to_lonlat = lonlat_converter(CRS.from_epsg(epsg), transform)
    assert to_lonlat is not None
    assert metres_per_pixel(to_lonlat, 4, 4) == pytest.approx(metres, rel=3e-3)


def test_columns_and_rows_become_longitude_and_latitude() -> None:
    """500,000 m east is a UTM zone's central meridian; a quarter meridian is 10,001,966 m."""
    crs = CRS.from_epsg(32632)
    to_lonlat = lonlat_converter(crs, Affine(1, 0, 499_990, 0, -1, 9_997_964.943))
    assert to_lonlat is not None
    lon, lat = to_lonlat(np.array([10.0, 10.0]), np.array([0.0, 1000.0]))
    assert lon == pytest.approx([9, 9], abs=1e-9)
    assert lat[0] == pytest.approx(90, abs=1e-6)
    assert math.radians(lat[0] - lat[1]) * 6_399_594 * 0.9996 == pytest.approx(1000, rel=1e-4)


def test_a_picture_without_a_place_on_the_earth_has_no_converter() -> None:
    assert lonlat_converter(None, Affine.identity()) is None
    local = CRS.from_wkt('LOCAL_CS["site",UNIT["metre",1]]')
    assert lonlat_converter(local, Affine.identity()) is None


@pytest.mark.parametrize(
    ("text", "sound"),
    [
        ("0.5\n0\n0\n-0.5\n300000.25\n4689999.75\n", True),
        ("0.4\r\n0.1\r\n-0.2\r\n-0.3\r\n7e5\r\n-12.125", True),
        ("0,5\n0\n0\n-0,5\n1,25\n2\nand more", True),
        ("0.5\n0\n0\n-0.5\n300000.25\n", False),
        ("0\n0\n0\n0\n1\n2\n", False),
        ("<html>", False),
        ("", False),
    ],
)
@pytest.mark.parametrize(
    ("name", "world"),
    [
        *(("a.tif", f"a.{each}") for each in ("tfw", "tifw", "wld", "TFW")),
        *(("b.c.png", f"b.c.{each}") for each in ("pgw", "pngw", "wld", "PGW")),
        *(("a.jpeg", f"a.{each}") for each in ("jgw", "jpegw", "wld")),
        ("a.png", "b.pgw"),
    ],
)
def test_a_world_file_is_read_as_gdal_does(
    tmp_path: Path, name: str, world: str, text: str, sound: bool
) -> None:
    Image.new("L", (3, 2)).save(tmp_path / name)
    (tmp_path / world).write_text(text, newline="")
    as_usual = rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="FALSE")
    with quiet_gdal(), as_usual, rasterio.open(tmp_path / name) as dataset:
        expected = dataset.transform
    place = read_world_file(tmp_path / name)
    assert (place or Affine.identity()) == expected
    assert (place is not None) == (sound and world != "b.pgw")


@pytest.mark.parametrize("text", ["nan\n0\n0\n1\n0\n0\n", "1\n0\n0\n1\ninf\n0\n", "ä" * 600])
def test_what_holds_no_six_numbers_is_no_world_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.tfw").write_text(text)
    assert read_world_file(tmp_path / "a.tif") is None
