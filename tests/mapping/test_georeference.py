"""Places of pictures, and metres per pixel, against geodesic formulas and known places."""

import math
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio import Affine
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.rpc import RPC

from roads.mapping.georeference import lonlat_converter, metres_per_pixel
from roads.mapping.opening import quiet_gdal
from roads.mapping.rasters import Raster, open_raster
from roads.runtime.errors import UserError
from tests.pictures import CORNER, UTM, noise, place_of, write_tiff

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


def place(path: Path, crs: str | None = None) -> Raster:
    """A picture, of which only the place is still read."""
    with open_raster(path, crs=crs) as raster:
        return raster


def with_points(path: Path, off: float, crs: str | None = UTM, count: int = 6) -> Path:
    """A picture with control points around its edge, each `off` pixels off at random."""
    rng = np.random.default_rng(0)
    points = []
    for row, column in [(0, 0), (0, 50), (40, 0), (40, 50), (20, 25), (10, 40)][:count]:
        angle = rng.uniform(0, 2 * np.pi)
        there = column + off * np.cos(angle), row + off * np.sin(angle)
        points.append(GroundControlPoint(row, column, *(place_of(0.5) @ there)))
    write_tiff(path, noise(40, 50))
    with quiet_gdal(), rasterio.open(path, "r+") as dataset:
        dataset.gcps = points, CRS.from_string(crs) if crs else CRS()
    return path


@pytest.mark.parametrize("off", [0, 0.5])
def test_control_points_place_a_picture(tmp_path: Path, off: float) -> None:
    raster = place(with_points(tmp_path / "a.tif", off))
    assert raster.crs == CRS.from_string(UTM)
    corners = np.array([0.0, 0, 50, 50]), np.array([0.0, 40, 0, 40])
    moved = np.array(~place_of(0.5) @ (raster.transform @ corners)) - corners
    assert abs(moved).max() <= 2 * off + 1e-6
    (note,) = raster.notes
    found = re.fullmatch(r"is placed by 6 control points, .* at most (\d\.\d\d) pixels", note)
    assert found
    assert float(found[1]) <= 2 * off


@pytest.mark.slow
def test_control_points_without_an_affine_fit_are_refused_with_a_command(tmp_path: Path) -> None:
    path = with_points(tmp_path / "a b.tif", 8)
    with pytest.raises(UserError, match=r"a b\.tif has 6 control points, .* \d+\.\d pixels") as no:
        place(path)
    command = re.search("`(rio .*)`", str(no.value))
    assert command
    rio = f"{shlex.quote(str(Path(sys.executable).with_name('rio')))} "
    subprocess.run(command[1].replace("rio ", rio, 1), shell=True, check=True, cwd=tmp_path)
    warped = place(tmp_path / "OUT.tif")
    assert warped.metres == pytest.approx((0.5, 0.5), rel=0.3)
    assert warped.to_lonlat is not None
    x, y = rasterio.warp.transform("EPSG:4326", UTM, *warped.to_lonlat(np.ones(1), np.ones(1)))
    assert np.hypot(x[0] - CORNER[0], y[0] - CORNER[1]) < 20


@pytest.mark.parametrize(("count", "off", "crs"), [(2, 0, UTM), (1, 0, UTM), (6, 8, None)])
def test_control_points_that_do_not_place_a_picture_are_reported(
    tmp_path: Path, count: int, off: float, crs: str | None
) -> None:
    raster = place(with_points(tmp_path / "a.tif", off, crs, count))
    assert raster.to_lonlat is None
    (note,) = raster.notes
    assert f"{count} control points" in note
    assert "do not place it" in note


def test_control_points_without_a_coordinate_system_give_a_scale(tmp_path: Path) -> None:
    path = with_points(tmp_path / "a.tif", 0, None)
    assert place(path).metres == pytest.approx((0.5, 0.5))
    assert place(path).to_lonlat is None
    assert place(path, UTM).to_lonlat is not None


def test_rpcs_are_reported_with_a_command(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a b.tif", noise(40, 50))
    one = [1.0] + [0.0] * 19
    terms: dict[str, Any] = dict.fromkeys(
        ("line_num_coeff", "line_den_coeff", "samp_num_coeff", "samp_den_coeff"), one
    )
    axes = ("line", "samp", "lat", "long")
    numbers = dict.fromkeys((f"{a}_{b}" for a in axes for b in ("off", "scale")), 1.0)
    with quiet_gdal(), rasterio.open(path, "r+") as dataset:
        dataset.rpcs = RPC(height_off=120.0, height_scale=500.0, **terms, **numbers)
    raster = place(path)
    assert (raster.metres, raster.to_lonlat) == (None, None)
    (note,) = raster.notes
    assert f"`gdalwarp -rpc -t_srs EPSG:3857 -to RPC_HEIGHT=120 '{path}' OUT.tif`" in note


LOCAL = 'LOCAL_CS["site",UNIT["foot",0.3048]]'


@pytest.mark.parametrize(
    ("own", "given", "taken"),
    [
        (None, UTM, UTM),
        (None, "EPSG:2249", "EPSG:2249"),
        (UTM, None, UTM),
        (UTM, UTM, UTM),
        ("EPSG:26919", UTM, "EPSG:26919"),  # NAD83 instead of WGS 84
        (LOCAL, UTM, UTM),
    ],
)
def test_a_coordinate_system_is_given_to_a_picture_without_one(
    tmp_path: Path, own: str | None, given: str | None, taken: str
) -> None:
    transform = Affine(0.5, 0, 233_000, 0, -0.5, 900_000)
    path = write_tiff(tmp_path / "a.tif", noise(4, 5), crs=own, transform=transform)
    raster = place(path, given)
    assert raster.crs == CRS.from_string(taken)
    assert raster.to_lonlat is not None
    assert raster.notes == []


@pytest.mark.parametrize(
    ("own", "name"),
    [("EPSG:26986", "EPSG:26986"), ("+proj=utm +zone=18 +ellps=GRS80 +units=us-ft", "unknown")],
)
def test_another_coordinate_system_than_a_pictures_own_is_refused(
    tmp_path: Path, own: str, name: str
) -> None:
    path = write_tiff(tmp_path / "a.tif", noise(4, 5), crs=own, transform=place_of(0.5))
    with pytest.raises(UserError, match=rf"a\.tif is in {name}, not {UTM}\. Map it without"):
        place(path, UTM)


def test_a_local_coordinate_system_gives_a_scale(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.tif", noise(4, 5), crs=LOCAL, transform=place_of(2))
    assert place(path).metres == pytest.approx((0.6096, 0.6096))
    assert place(path).to_lonlat is None


def test_a_coordinate_system_without_a_transform_is_reported(tmp_path: Path) -> None:
    raster = place(write_tiff(tmp_path / "a.tif", noise(4, 5), crs=UTM))
    assert (raster.metres, raster.to_lonlat) == (None, None)
    assert "has a coordinate system but no transform" in raster.notes[0]


def test_coordinates_off_the_earth_place_nothing() -> None:
    assert lonlat_converter(CRS.from_epsg(4326), place_of(1)) is None


@pytest.mark.parametrize(
    ("own", "given", "transform"),
    [
        (None, "EPSG:4326", place_of(1)),
        ("EPSG:4326", None, place_of(1)),
        ("EPSG:4326", None, Affine(1, 0, 0, 0, 1, 0)),  # its corner is on the Earth
    ],
)
def test_coordinates_off_the_earth_are_refused_by_name(
    tmp_path: Path, own: str | None, given: str | None, transform: Affine
) -> None:
    pixels = noise(400, 5)
    path = write_tiff(tmp_path / "a.tif", pixels, crs=own, transform=place_of(1))
    if not transform.c:
        (tmp_path / "a.tif.aux.xml").write_text(
            "<PAMDataset><GeoTransform>0, 1, 0, 0, 0, 1</GeoTransform></PAMDataset>"
        )
    with pytest.raises(UserError, match=r"a\.tif is outside the Earth in EPSG:4326: .*--crs"):
        place(path, given)
    if own:
        assert place(path, UTM).crs == CRS.from_string(UTM)
