"""Files next to pictures that place them, against GDAL, and odd ones."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio import Affine
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.enums import WktVersion

from roads.mapping.opening import quiet_gdal
from roads.mapping.rasters import open_raster
from roads.mapping.sidecars import MOST_BYTES, read_sidecars
from tests.pictures import UTM, noise, place_of

PLACE = Affine(0.5, 0.1, 300_000, 0.2, -0.5, 4_690_000)
WKT = CRS.from_string(UTM).to_wkt()
AS_USUAL = {"GDAL_DISABLE_READDIR_ON_OPEN": "FALSE", "GDAL_PAM_ENABLED": True}


def as_gdal_reads(path: Path) -> tuple[Any, ...]:
    """Coordinate system, transform and control points as GDAL finds them by default."""
    with quiet_gdal(), rasterio.Env(**AS_USUAL), rasterio.open(path) as dataset:
        points, _ = dataset.gcps
        return dataset.crs, dataset.transform, [(p.row, p.col, p.x, p.y) for p in points]


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
    place = read_sidecars(tmp_path / name).world
    assert (place or Affine.identity()) == expected
    assert (place is not None) == (sound and world != "b.pgw")


@pytest.mark.parametrize("text", ["nan\n0\n0\n1\n0\n0\n", "1\n0\n0\n1\ninf\n0\n", "ä" * 600])
def test_a_world_file_needs_six_numbers(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.tfw").write_text(text)
    assert read_sidecars(tmp_path / "a.tif").world is None


@pytest.mark.parametrize("driver", ["PNG", "JPEG", "GTiff"])
@pytest.mark.parametrize("code", [UTM, "EPSG:2249", "EPSG:4326"])
def test_an_aux_xml_of_gdal_is_read(tmp_path: Path, driver: str, code: str) -> None:
    path = tmp_path / "a"
    place = Affine(1e-5, 0, -71, 0, -1e-5, 42) if code == "EPSG:4326" else PLACE
    how = {"height": 2, "width": 3, "count": 3, "dtype": "uint8", "crs": code, "transform": place}
    how |= {"profile": "BASELINE"} if driver == "GTiff" else {}
    with (
        quiet_gdal(),
        rasterio.Env(**AS_USUAL),
        rasterio.open(path, "w", driver=driver, **how) as dataset,
    ):
        dataset.write(np.zeros((3, 2, 3), np.uint8))
    assert (tmp_path / "a.aux.xml").is_file()
    before = sorted(tmp_path.iterdir())
    with open_raster(path) as raster:
        assert (raster.crs, raster.transform, []) == as_gdal_reads(path)
        assert raster.crs == CRS.from_string(code)
        assert raster.notes == []
    assert sorted(tmp_path.iterdir()) == before


def test_control_points_of_an_aux_xml_are_read_as_gdal_does(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    points = [
        GroundControlPoint(row, column, *(PLACE @ (column, row)))
        for row, column in ((0, 0), (0, 3), (2, 3.5))
    ]
    with quiet_gdal(), rasterio.Env(**AS_USUAL):
        how = {"height": 2, "width": 3, "count": 1, "dtype": "uint8"}
        with rasterio.open(path, "w", driver="PNG", **how) as dataset:
            dataset.write(np.zeros((1, 2, 3), np.uint8))
            dataset.gcps = points, CRS.from_string(UTM)
    found = read_sidecars(path)
    assert found.points_crs == CRS.from_string(UTM)
    assert [(p.row, p.col, p.x, p.y) for p in found.points] == as_gdal_reads(path)[2]
    assert len(found.points) == 3


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif"])
def test_contradicting_files_have_the_order_of_gdal(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    Image.fromarray(noise(2, 3)).save(path)
    if name == "a.tif":
        with quiet_gdal(), rasterio.open(path, "r+") as dataset:
            dataset.crs, dataset.transform = "EPSG:2249", place_of(1)
    world = path.with_suffix(f".{path.suffix[1]}{path.suffix[-1]}w")
    world.write_text("2\n0\n0\n-2\n1\n-1\n")
    aux = tmp_path / f"{name}.aux.xml"
    numbers = ", ".join(map(repr, PLACE.to_gdal()))
    for text in (
        f"<PAMDataset><SRS>{WKT}</SRS><GeoTransform>{numbers}</GeoTransform></PAMDataset>",
        f"<PAMDataset><SRS>{WKT}</SRS></PAMDataset>",
        "<PAMDataset><Metadata/></PAMDataset>",
    ):
        aux.write_text(text)
        with open_raster(path) as raster:
            assert (raster.crs, raster.transform, []) == as_gdal_reads(path)


@pytest.mark.parametrize("code", [UTM, "EPSG:26986", "EPSG:2249", "EPSG:3857", "EPSG:4326"])
@pytest.mark.parametrize("version", [WktVersion.WKT1_ESRI, WktVersion.WKT2])
@pytest.mark.parametrize("name", ["a.prj", "a.PRJ"])
def test_a_prj_gives_the_coordinate_system(
    tmp_path: Path, code: str, version: WktVersion, name: str
) -> None:
    (tmp_path / name).write_text("\ufeff" + CRS.from_string(code).to_wkt(version=version))
    found = read_sidecars(tmp_path / "a.tif").prj
    assert found is not None
    assert found.to_epsg() == CRS.from_string(code).to_epsg()


BOMB = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 20))


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("a.png.aux.xml", "", "not XML"),
        ("a.png.aux.xml", "<PAMDataset>", "not XML"),
        ("a.png.aux.xml", f'<!DOCTYPE a [<!ENTITY a0 "a">{BOMB}]><PAMDataset/>', "document type"),
        ("a.png.aux.xml", "<PAMDataset>" + " " * MOST_BYTES + "</PAMDataset>", "1,000,000 bytes"),
        ("a.png.aux.xml", "<PAMDataset><SRS>EPSG:26986</SRS></PAMDataset>", "WKT"),
        (
            "a.png.aux.xml",
            "<PAMDataset><GeoTransform>1, 2</GeoTransform></PAMDataset>",
            "six numbers",
        ),
        (
            "a.png.aux.xml",
            "<PAMDataset><GeoTransform>0, nan, 0, 0, 0, 1</GeoTransform></PAMDataset>",
            "is not invertible",
        ),
        ("a.png.aux.xml", "<PAMDataset><GeodataXform/></PAMDataset>", "ArcGIS"),
        ("a.prj", "Projection UTM\nZone 19\n", "WKT"),
        ("a.prj", "PROJCS[" * 5000, "WKT"),
        ("a.pgw", "1\n0\n0\n", "six numbers"),
        ("a.pgw", "1\n0\n0\n-1\nabc\n0\n", "six numbers"),
    ],
    ids=range(12),
)
def test_an_odd_file_is_ignored_with_a_note(
    tmp_path: Path, name: str, text: str, why: str, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_text(text)
    Image.fromarray(noise(2, 3)).save(tmp_path / "a.png")
    with open_raster(tmp_path / "a.png") as raster:
        assert (raster.crs, raster.metres) == (None, None)
        (note,) = raster.notes
    assert note.startswith(f"has a {name} that cannot be read: ")
    assert why in note
    assert capfd.readouterr().err == ""


@pytest.mark.slow
def test_deep_xml_does_no_harm(tmp_path: Path) -> None:
    text = "<PAMDataset>" + "<a>" * 100_000 + "</a>" * 100_000 + "</PAMDataset>"
    (tmp_path / "a.png.aux.xml").write_text(text)
    assert read_sidecars(tmp_path / "a.png").notes == []
