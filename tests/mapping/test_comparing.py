"""Two maps compared: the right lists in every format and coordinate system, and what is refused."""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio.raw
import pytest
import shapely
from PIL import Image
from rasterio.crs import CRS

from roads.__main__ import main
from roads.mapping.comparing import Comparison, compare_maps, map_of, projected
from roads.mapping.layers import read_lines
from roads.mapping.opening import quiet_gdal
from roads.mapping.predicting import map_roads
from roads.runtime.errors import UserError
from tests.pictures import BRIGHTNESS, CORNER, UTM, crossing, options, place_of, write_tiff

STREET = [(10, 100), (290, 100)]  # metres to the right of CORNER and down
ALLEY = [(150, 0), (150, 300)]
DRIVERS = {".geojson": "GeoJSON", ".gpkg": "GPKG", ".shp": "ESRI Shapefile"}


def write_lines(
    path: Path, lines: Sequence[Any], crs: str | None = UTM, layer: str = "ways", **fields: Any
) -> Path:
    """Write lines, or other geometries, that are given in metres right of CORNER and down."""
    shapes = [shapely.LineString(line) if isinstance(line, list) else line for line in lines]
    placed = shapely.transform(shapes, lambda points: points * (1, -1) + CORNER)
    with quiet_gdal():
        moved = projected(placed, CRS.from_string(UTM), CRS.from_string(crs or UTM))
    pyogrio.raw.write(
        path,
        shapely.to_wkb(moved),
        [np.array(values) for values in fields.values()],
        list(fields),
        layer=path.stem if path.suffix == ".shp" else layer,
        driver=DRIVERS[path.suffix],
        geometry_type=shapes[0].geom_type
        if len({each.geom_type for each in shapes}) == 1
        else "Unknown",
        crs=crs,
    )
    return path


def lengths(comparison: Comparison) -> dict[str, list[float]]:
    return {
        name: comparison.layers[name].pieces.lengths.round(1).tolist()
        for name in ("missing_from_map", "not_seen", "matched")
    }


@pytest.mark.parametrize("suffix", DRIVERS)
@pytest.mark.parametrize("crs", [UTM, "EPSG:4326", "EPSG:3857", "EPSG:2249"])  # the last in feet
def test_lines_in_any_format_and_system_are_compared_in_metres(
    suffix: str, crs: str, tmp_path: Path
) -> None:
    ours = write_lines(tmp_path / "ours.gpkg", [STREET, ALLEY], probability=[0.9, 0.6])
    theirs = write_lines(tmp_path / f"theirs{suffix}", [[(10, 105), (290, 105)]], crs)
    found = compare_maps(ours, theirs)
    near = {"missing_from_map": [300], "not_seen": [], "matched": [280]}
    assert {key: pytest.approx(each, abs=0.2) for key, each in lengths(found).items()} == near
    assert found.layers["matched"].pieces.distances == pytest.approx([5], abs=0.05)
    assert found.layers["missing_from_map"].probability == pytest.approx([0.6])
    assert found.match.completeness == 1


def test_a_map_of_roads_predict_is_compared_where_it_has_imagery(tmp_path: Path) -> None:
    image = crossing(300, 280, 100, 150)
    image[:, 220:] = 255  # no imagery
    picture = write_tiff(tmp_path / "a.tif", image, metres=1)
    map_roads([picture], tmp_path / "out", BRIGHTNESS, options(), force=False)
    beyond = [(-500, 200.5), (900, 200.5)]
    theirs = write_lines(tmp_path / "theirs.geojson", [[(-500, 100.5), (900, 100.5)], beyond])
    found = compare_maps(tmp_path / "out/a_roads.geojson", theirs)
    (missing,), (unseen,), matched = lengths(found).values()
    assert missing == pytest.approx(300, abs=2)
    assert unseen == pytest.approx(220, abs=1)
    assert sum(matched) == pytest.approx(220, abs=4)
    assert found.layers["missing_from_map"].probability[0] > 0.8
    assert found.layers["not_seen"].probability[0] < 0.3
    assert found.area == f"where {tmp_path / 'out/a_probability.tif'} has data"


def test_a_probability_belongs_to_the_picture_of_that_name(tmp_path: Path) -> None:
    names, picture = ("a", "a_mask"), crossing(60, 60, 20, 30)
    pictures = [write_tiff(tmp_path / f"{name}.tif", picture, metres=1) for name in names]
    map_roads(pictures, tmp_path / "out", BRIGHTNESS, options(), force=False)
    for name in names:
        found = map_of(tmp_path / f"out/{name}_roads.geojson")
        assert found == (name, tmp_path / f"out/{name}_probability.tif")


def test_raster_maps_are_traced_and_compared_where_both_have_data(tmp_path: Path) -> None:
    bright = (crossing(300, 280, 100, 150) > 200) * np.uint8(255)
    ours = write_tiff(tmp_path / "ours_mask.tif", bright[..., :1], metres=1)
    Image.fromarray(bright[:200, :, 0] // 255 * 200).save(tmp_path / "theirs.png")  # shorter
    place = place_of(1)
    half = place @ (0.5, 0.5)
    world = [place.a, 0, 0, place.e, *half]
    (tmp_path / "theirs.pgw").write_text("\n".join(map(str, world)))
    with pytest.raises(UserError, match="Set it with --crs"):
        compare_maps(ours, tmp_path / "theirs.png")
    found = compare_maps(ours, tmp_path / "theirs.png", crs=UTM)
    assert lengths(found)["missing_from_map"] == lengths(found)["not_seen"] == []
    assert found.match.found.total == pytest.approx(480, abs=4)
    assert found.match.matched.distances.max() < 0.5


def test_the_most_interesting_pieces_come_first(tmp_path: Path) -> None:
    roads = [[(0, y), (x, y)] for x, y in ((100, 0), (200, 100), (150, 200))]
    ours = write_lines(tmp_path / "ours.gpkg", [STREET, *roads], probability=[1, 1, 0.4, 0.9])
    theirs = write_lines(tmp_path / "theirs.gpkg", [[(0, 300), (40, 300)], [(0, 390), (90, 390)]])
    frame = write_lines(tmp_path / "frame.gpkg", [[(0, 0), (300, 0)], [(0, 400), (300, 400)]])
    with pytest.raises(UserError, match="no road in the area"):
        compare_maps(ours, theirs)  # the box around ours ends at 200
    found = compare_maps(frame, theirs)
    assert lengths(found)["not_seen"] == [90, 40]
    found = compare_maps(ours, frame)
    assert lengths(found)["missing_from_map"] == [280, 150, 200]  # × 1, 0.9 and 0.4


def test_one_layer_of_a_geopackage_is_read(tmp_path: Path) -> None:
    path = tmp_path / "extract.gpkg"
    for layer, lines in {
        "railways": [ALLEY], "osm_roads": [STREET], "nodes": [shapely.Point(1, 1)],
    }.items():  # fmt: skip
        write_lines(path, lines, layer=layer)
    found = read_lines(path)
    assert found.lines[0].length == pytest.approx(280)
    assert found.notes == ["has other layers, which are ignored: nodes, railways"]
    assert read_lines(path, "railways").lines[0].length == pytest.approx(300)
    write_lines(path, [STREET], layer="roads")
    with pytest.raises(UserError, match="railways, osm_roads, roads"):
        read_lines(path)
    with pytest.raises(UserError, match="no layer x"):
        read_lines(path, "x")
    alone = write_lines(tmp_path / "ways.gpkg", [STREET])
    for pair in ((path, alone), (alone, path)):
        assert lengths(compare_maps(*pair, layer="osm_roads"))["matched"] == [280]


def test_other_geometries_are_ignored(tmp_path: Path) -> None:
    shapes = [
        STREET,
        shapely.Point(1, 1),
        shapely.MultiLineString([ALLEY, STREET]),
        shapely.box(0, 0, 1, 1),
    ]
    found = read_lines(write_lines(tmp_path / "a.geojson", shapes, "EPSG:4326"))
    assert len(found.lines) == 3
    assert found.notes == ["has 2 points or areas, which are ignored"]


@pytest.mark.filterwarnings("ignore:invalid value")  # of NaN, from shapely
def test_lines_without_a_length_or_that_are_not_finite_are_ignored(tmp_path: Path) -> None:
    ours = write_lines(tmp_path / "ours.gpkg", [STREET, ALLEY])
    odd = [[(150, 100)] * 2, [], [(10, 100), (np.nan, 100)], [(10, 100), (np.inf, 100)]]
    theirs = write_lines(tmp_path / "theirs.gpkg", [STREET, *odd])
    found = compare_maps(ours, theirs)
    near = {"missing_from_map": [300], "not_seen": [], "matched": [280]}
    assert lengths(found) == near
    assert found.notes == [
        f"{theirs} has 4 lines whose length is 0 or not finite, which are ignored"
    ]
    for path in (write_lines(tmp_path / f"{at}.gpkg", [line]) for at, line in enumerate(odd)):
        with pytest.raises(UserError, match="has no lines; has 1 lines whose length"):
            compare_maps(path, ours)


def test_lines_that_pass_by_the_area_are_left_out(tmp_path: Path) -> None:
    ours = write_lines(tmp_path / "ours.gpkg", [STREET, ALLEY])
    corners = [[(x, y), (x + 1, y)] for x in (2, 10) for y in (-12, 312)]
    theirs = write_lines(tmp_path / "theirs.gpkg", [STREET, *corners])  # the area is turned in UTM
    assert lengths(compare_maps(ours, theirs))["not_seen"] == []


@pytest.mark.filterwarnings("ignore:.crs. was not provided")
def test_a_geopackage_in_pixels_is_refused_like_a_geojson(tmp_path: Path) -> None:
    path, line = tmp_path / "a_roads.gpkg", shapely.to_wkb([shapely.LineString([(0, 0), (9, 9)])])
    fields = {"field_data": [np.array([13.0])], "fields": ["length_px"]}
    pyogrio.raw.write(path, np.array(line), geometry_type="LineString", layer="roads", **fields)
    with pytest.raises(UserError, match=r"a_roads\.gpkg is in pixels\. Georeference"):
        read_lines(path)


@pytest.mark.slow
def test_an_area_of_many_kilometres_is_compared_to_its_border(tmp_path: Path) -> None:
    """In the middle of the zone, where the upper side is north of both its ends."""
    middle = 500_000 - CORNER[0]
    sides = middle - 50_000, middle, middle + 50_000
    ours = [[(x, y) for x in sides] for y in (0, 5000, 10_000)]
    road = [(middle - 200, 0), (middle + 200, 0)]
    theirs = write_lines(tmp_path / "theirs.gpkg", [road, ours[1]], "EPSG:4326")
    found = compare_maps(write_lines(tmp_path / "ours.gpkg", ours), theirs)
    assert found.match.found.total == pytest.approx(100_400, rel=1e-3)


PIXELS = io.BytesIO()
Image.fromarray(crossing(60, 60, 20, 30)).save(PIXELS, "PNG")


def geojson(**members: Any) -> bytes:
    line = {"type": "LineString", "coordinates": [[-71, 42], [-71, 42.1]]}
    feature = {"type": "Feature", "properties": None, "geometry": line}
    return json.dumps({"type": "FeatureCollection", "features": [feature]} | members).encode()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"{", "is broken or not GeoJSON"),
        (b'{"type": "Topology"}', "is broken or not GeoJSON"),
        (geojson(features=[]), "has no lines"),
        (geojson(features=[None]), "is broken or not GeoJSON"),
        (geojson(unit="pixels"), "is in pixels"),
        (geojson(crs={"type": "link", "properties": {"href": "http://a/b"}}), "is broken or not"),
        (geojson(crs={"properties": {"name": "ESRI:102100"}}), "has no EPSG code"),
        (b"[" * 100_000, "is neither GeoJSON, GeoPackage"),
        (b'{"features":' + b"[" * 100_000, "is broken or not GeoJSON"),
        (b"SQLite format 3\0" + b"x" * 100, "is broken or not GeoJSON"),
        (b"\0\0\x27\x0a" + b"x" * 100, "is broken or not GeoJSON"),
        (b"<OGRVRTDataSource>", "is neither GeoJSON, GeoPackage"),
        (geojson(), "no road in the area"),
        (b'{"type": "LineString", "coordinates": [[-71, 42], [-71, 42.1]]}', "no road in the area"),
        (PIXELS.getvalue(), "has no known place"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_files_that_cannot_be_compared_are_refused_in_one_line(
    content: bytes, told: str, tmp_path: Path
) -> None:
    ours = write_lines(tmp_path / "ours.gpkg", [STREET])
    (tmp_path / "theirs").write_bytes(content)
    with pytest.raises(UserError, match=told) as error:
        compare_maps(ours, tmp_path / "theirs")
    assert "\n" not in str(error.value)


def test_the_crs_member_of_older_geojson_is_read(tmp_path: Path) -> None:
    name = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::26986"}}
    (tmp_path / "a.json").write_bytes(geojson(crs=name))
    assert read_lines(tmp_path / "a.json").crs == CRS.from_epsg(26986)


def test_a_shapefile_without_a_prj_needs_its_coordinate_system(tmp_path: Path) -> None:
    ours = write_lines(tmp_path / "ours.gpkg", [STREET])
    theirs = write_lines(tmp_path / "theirs.shp", [STREET])
    prj = theirs.with_suffix(".prj").rename(theirs.with_suffix(".PRJ"))
    assert compare_maps(ours, theirs).match.quality == 1
    prj.unlink()
    with pytest.raises(UserError, match="Set it with --crs"):
        compare_maps(ours, theirs)
    assert compare_maps(ours, theirs, crs=UTM).match.quality == 1


def test_the_command_writes_lists_totals_page_and_chips(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = write_tiff(tmp_path / "a.tif", crossing(300, 280, 100, 150), metres=1)
    out, told = tmp_path / "out", tmp_path / "told"
    map_roads([picture], out, BRIGHTNESS, options(), force=False)
    capsys.readouterr()
    theirs = write_lines(
        tmp_path / "theirs.gpkg", [[(0, 102.5), (280, 102.5)], [(0, 250), (200, 250)]]
    )
    words = ["compare", out / "a_roads.geojson", theirs, "--out", told]
    further = ["--picture", picture, "--chips", "3"]
    assert main([str(word) for word in [*words, *further]]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("0.58 km of road, 0.28 km of it in the map, 2.0 m off on average")
    assert lines[2].startswith("missing from the map: 0.30 km, 1 pieces → ")
    assert lines[3].startswith("not seen: 0.20 km, 1 pieces → ")
    record = json.loads((told / "a_compare.json").read_text())
    names = sorted(path.name for path in told.iterdir() if path.name != "a_compare.json")
    assert names == sorted(record["files"]) == [
        "a_compare.gpkg", "a_compare.html", "a_matched.geojson",
        "a_missing_from_map.geojson", "a_missing_from_map_1.jpg", "a_not_seen.geojson",
        "a_not_seen_1.jpg",
    ]  # fmt: skip
    assert record["correctness"] == pytest.approx(280 / 580, abs=0.01)
    assert record["completeness"] == pytest.approx(280 / 480, abs=0.01)
    (feature,) = json.loads((told / "a_not_seen.geojson").read_text())["features"]
    assert feature["properties"].keys() == {"rank", "length_m", "distance_m", "probability"}
    assert feature["properties"]["length_m"] == pytest.approx(200, abs=1)
    layer = read_lines(told / "a_compare.gpkg", "not_seen")
    with quiet_gdal():
        (unseen,) = projected(layer.lines, layer.crs, CRS.from_string(UTM))
    expected = shapely.LineString([np.add(CORNER, (0, -250)), np.add(CORNER, (200, -250))])
    assert unseen.hausdorff_distance(expected) < 0.5
    page = (told / "a_compare.html").read_text()
    colours = np.array(Image.open(told / "a_not_seen_1.jpg")).astype(int)
    blue = np.argwhere((colours[..., 2] > 200) & (colours[..., 0] < 120))
    assert len(blue) > 1000
    assert blue[:, 1].min() >= colours.shape[1] // 2  # of the drawn half alone

    assert main([str(word) for word in words]) == 0  # without page and chips: the earlier ones go
    assert all(title in page for title in ("missing from the map", "not seen", "matched"))
    assert not list(told.glob("*.html")) + list(told.glob("*.jpg"))
    other = write_tiff(tmp_path / "b.tif", crossing(30, 28, 10, 15), metres=10)
    assert main([str(word) for word in [*words, "--picture", other]]) == 1
    assert "is not the picture of" in capsys.readouterr().err
    (told / "a_compare.json").write_text('{"files": ["../a.tif"]}')
    assert main([str(word) for word in words]) == 1
    (told / "a_compare.json").write_text("[]")
    assert main([str(word) for word in words]) == 1
    assert "would be replaced" in capsys.readouterr().err
    assert picture.exists()
