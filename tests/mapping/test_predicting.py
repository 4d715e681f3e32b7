"""Road maps of whole pictures: where roads land, what is kept, blank areas, resumed runs."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio.raw
import pytest
import rasterio
import shapely
from numpy.typing import NDArray
from PIL import Image
from rasterio import features

from roads.mapping import predicting
from roads.mapping.opening import quiet_gdal
from roads.mapping.predicting import Model, find_pictures, map_roads, model_shape
from roads.mapping.sidecars import read_sidecars
from roads.models.unet import build_unet
from roads.prediction.blending import Float32, Windows, predict_tile
from roads.prediction.inference import Predictor
from roads.runtime.arrays import Image8
from roads.runtime.errors import UserError
from tests.packed import unet_params
from tests.pictures import (
    BRIGHTNESS,
    UTM,
    VRT,
    brightness,
    crossing,
    noise,
    options,
    place_of,
    write_tiff,
)  # fmt: skip
from tests.project import ROOT


def map_one(path: Path, out: Path, model: Model = BRIGHTNESS, **changes: Any) -> dict[str, Any]:
    """Map one picture; the facts."""
    map_roads([path], out, model, options(**changes), force=False)
    facts: dict[str, Any] = json.loads((out / f"{path.stem}.json").read_text())
    return facts


def band(path: Path) -> tuple[Image8, Any, Image8]:
    """A result's band, profile, and mask of valid pixels, as other programs read them."""
    as_usual = rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="FALSE")
    with quiet_gdal(), as_usual, rasterio.open(path) as dataset:
        return dataset.read(1), dataset.profile, dataset.read_masks(1)


def lines(path: Path) -> list[dict[str, Any]]:
    features: list[dict[str, Any]] = json.loads(path.read_text())["features"]
    return features


@pytest.mark.parametrize("shape", [(150, 131), (20, 70), (1, 1)])
def test_a_picture_is_predicted_as_a_tile_is(tmp_path: Path, shape: tuple[int, int]) -> None:
    net = build_unet(unet_params(filters=2), seed=1)
    model = replace(BRIGHTNESS, predict=Predictor(net, 2))
    image = np.random.default_rng(0).integers(0, 240, (*shape, 3), np.uint8)
    map_one(write_tiff(tmp_path / "a.tif", image), tmp_path / "out", model)
    expected = predict_tile(Predictor(net, 2), image, Windows(64, 16, 2))
    probability, profile, valid = band(tmp_path / "out/a_probability.tif")
    np.testing.assert_array_equal(probability, np.rint(expected * 65_535))
    mask, _, _ = band(tmp_path / "out/a_mask.tif")
    np.testing.assert_array_equal(mask > 0, np.rint(expected * 65_535) >= 0.5 * 65_535)
    assert (valid == 255).all()
    assert profile["crs"] is None


@pytest.mark.parametrize("threshold", [0, 1e-5, 0.0007, 0.001, 0.2, 1])
def test_a_threshold_far_below_one_byte_finds_its_road(tmp_path: Path, threshold: float) -> None:
    probability, half = np.geomspace(1e-6, 1, 200).astype(np.float32), 0.5001 / 65_535

    def rising(windows: Image8) -> Float32:
        return probability[windows[..., 0] - 1]  # of which the picture's are 1 to 200

    image = np.broadcast_to(np.arange(1, 201, dtype=np.uint8)[None, :, None], (40, 200, 3))
    picture = write_tiff(tmp_path / "a.tif", image, metres=1)
    model = replace(BRIGHTNESS, predict=rising)
    map_one(picture, tmp_path / "out", model, threshold=threshold)
    with quiet_gdal(), rasterio.open(tmp_path / "out/a_probability.tif") as dataset:
        assert dataset.descriptions == ("road probability",)
        stored = dataset.read(1)
        np.testing.assert_allclose(stored[0] * dataset.scales[0], probability, atol=half)
    mask, _, _ = band(tmp_path / "out/a_mask.tif")
    np.testing.assert_array_equal(mask > 0, stored >= threshold * 65_535)
    assert mask[0, probability >= threshold + half].all()
    assert not mask[0, probability < threshold - half].any()


def test_place_size_and_format_of_a_picture_are_kept(tmp_path: Path) -> None:
    picture = write_tiff(tmp_path / "a.tif", crossing(300, 280, 100, 150), metres=1)
    facts = map_one(picture, tmp_path / "out")
    for kind in ("probability", "mask"):
        values, profile, _ = band(tmp_path / f"out/a_{kind}.tif")
        assert profile["crs"].to_string() == UTM
        assert profile["transform"] == place_of(1)
        assert (profile["tiled"], profile["blockxsize"]) == (True, 512)
        assert profile["compress"] == "deflate"
        assert values.shape == (300, 280)
    assert set(np.unique(values)) == {0, 255}
    assert facts["crs"] == UTM
    assert facts["road_fraction"] == pytest.approx((7 * 280 + 7 * 293) / (300 * 280), abs=1e-6)
    assert facts["road_km"] == pytest.approx(0.58, abs=0.02)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "a.json", "a_mask.tif", "a_overlay.jgw", "a_overlay.jpg", "a_overlay.prj",
        "a_probability.tif", "a_roads.geojson", "a_roads.gpkg",
    ]  # fmt: skip


def test_centrelines_are_where_the_roads_are_on_the_earth(tmp_path: Path) -> None:
    picture = write_tiff(tmp_path / "a.tif", crossing(300, 280, 100, 150), metres=1)
    map_one(picture, tmp_path / "out")
    found = lines(tmp_path / "out/a_roads.geojson")
    assert len(found) == 4
    points = np.concatenate([feature["geometry"]["coordinates"] for feature in found])
    x, y = rasterio.warp.transform("EPSG:4326", UTM, *points.T)
    columns, rows = ~place_of(1) @ (np.array(x), np.array(y))
    on_road = (abs(rows - 100.5) < 1.5) | (abs(columns - 150.5) < 1.5)
    assert on_road.all()
    assert len(np.unique(points, axis=0)) == 5  # four ends and a crossing that they share
    assert sum(feature["properties"]["length_m"] for feature in found) == pytest.approx(580, abs=20)


@pytest.mark.parametrize("metres", [0.25, 0.5, 0.99, 2.0])
def test_roads_keep_their_place_for_any_pixel_size(
    tmp_path: Path, metres: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roads.mapping.resampling.STRIP_PIXELS", 5000)
    seen: list[tuple[int, ...]] = []
    image = crossing(240, 200, 80, 120, half=6)
    monkeypatch.setattr(predicting, "predict_rows", spy(predicting.predict_rows, seen))
    facts = map_one(write_tiff(tmp_path / "a.tif", image, metres=metres), tmp_path / "out")
    expected = (240, 200) if metres == 0.99 else (240 * metres, 200 * metres)
    assert seen == [expected]
    mask, profile, _ = band(tmp_path / "out/a_mask.tif")
    assert profile["transform"] == place_of(metres)
    road = image[..., 0] > 128
    wrong = (mask > 0) != road
    assert wrong.mean() < 0.01
    if metres <= 1:
        inside = np.pad(road, 4)
        near = np.any([np.roll(inside, (r, c), (0, 1)) for r in (-4, 0, 4) for c in (-4, 0, 4)], 0)
        assert not (mask > 0)[~near[4:-4, 4:-4]].any()
    assert facts["road_km"] == pytest.approx(0.44 * metres, rel=0.06)


def test_a_gap_is_joined_with_the_probability_along_it(tmp_path: Path) -> None:
    image = np.full((80, 200, 3), 51, np.uint8)
    image[37:44] = 220
    image[:, 90:105] = 51
    path = write_tiff(tmp_path / "a.tif", image)
    assert map_one(path, tmp_path / "apart", join=0)["roads"] == 2
    assert map_one(path, tmp_path / "joined", join=25)["roads"] == 3
    found = [line["properties"] for line in lines(tmp_path / "joined/a_roads.geojson")]
    (gap,) = (each for each in found if each["length_px"] < 25)
    assert gap["probability"] < 0.5
    assert gap["width_px"] is None


def spy(function: Callable[..., Any], seen: list[tuple[int, ...]]) -> Callable[..., Any]:
    """The function, which notes the height and width that it is to predict."""

    def noting(predict: Any, read: Any, height: int, width: int, windows: Any) -> Any:
        seen.append((height, width))
        return function(predict, read, height, width, windows)

    return noting


def test_gsd_is_used_if_the_pixel_size_is_unknown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(crossing(100, 100, 50, 50)).save(tmp_path / "a.png")
    assert map_one(tmp_path / "a.png", tmp_path / "out", gsd=0.5)["road_km"] == pytest.approx(
        0.1, abs=0.01
    )
    assert capsys.readouterr().err == ""
    map_one(tmp_path / "a.png", tmp_path / "out")
    assert "1 m is assumed" in capsys.readouterr().err
    assert "unit" in json.loads((tmp_path / "out/a_roads.geojson").read_text())


def test_pictures_with_hardly_any_road_get_advice_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dark = [
        write_tiff(tmp_path / f"{name}.tif", np.full((40, 40, 3), 100, np.uint8)) for name in "ab"
    ]
    map_roads(dark, tmp_path / "out", BRIGHTNESS, options(gsd=1.0), force=False)
    said = capsys.readouterr()
    assert said.out.count("0.0% of the imagery") == 2
    assert said.err == f"predict: {predicting.FEW_ROADS}\n"
    map_roads(dark, tmp_path / "low", BRIGHTNESS, options(gsd=1.0, threshold=0.3), force=False)
    empty = write_tiff(tmp_path / "empty.tif", np.full((40, 40, 3), 255, np.uint8))
    assert map_one(empty, tmp_path / "out", gsd=1.0)["imagery_fraction"] == 0
    assert capsys.readouterr().err == ""


def test_gsd_may_not_contradict_the_place_of_a_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = write_tiff(tmp_path / "a.tif", crossing(100, 100, 50, 50), metres=0.5)
    own = map_one(picture, tmp_path / "out")
    assert own["metres_per_row"] == pytest.approx(0.5, rel=1e-3)
    near = map_one(picture, tmp_path / "near", gsd=0.509)
    assert (near["metres_per_row"], near["road_km"]) == (own["metres_per_row"], own["road_km"])
    capsys.readouterr()
    with pytest.raises(UserError):
        map_one(picture, tmp_path / "far", gsd=1.0)
    assert re.search(
        r"a\.tif is georeferenced with pixels of 0\.5\d* × 0\.5\d* m, but --gsd says 1\. "
        "Map it without --gsd",
        capsys.readouterr().err,
    )


def test_a_world_file_gives_the_scale_and_crs_the_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture, out = tmp_path / "a.png", tmp_path / "out"
    Image.fromarray(crossing(100, 100, 50, 50)).save(picture)
    (tmp_path / "a.pgw").write_text("0.5\n0\n0\n-0.5\n300000.25\n4689999.75\n")
    facts = map_one(picture, out)
    assert facts["road_px"] == pytest.approx(200, abs=20)
    assert "road_km" not in facts
    assert (facts["crs"], facts["metres_per_row"]) == (None, 0.5)
    assert "unit" in json.loads((out / "a_roads.geojson").read_text())
    said = capsys.readouterr()
    assert f"{picture} is in an unknown coordinate system" in said.err
    assert "0.5 × 0.5 m" in said.err
    assert map_one(picture, out, gsd=0.5)["road_km"] == pytest.approx(0.1, abs=0.01)
    assert capsys.readouterr().err == ""
    assert map_one(picture, out, gsd=1.0)["road_km"] == pytest.approx(0.2, abs=0.02)
    assert "1 m is used, as --gsd says" in capsys.readouterr().err
    assert map_one(picture, out, crs=UTM)["crs"] == UTM
    tagged = write_tiff(tmp_path / "b.tif", crossing(100, 100, 50, 50), metres=0.5)
    map_one(tagged, out)
    assert lines(out / "a_roads.geojson") == lines(out / "b_roads.geojson")
    map_one(picture, out)
    (tmp_path / "a.prj").write_text(rasterio.crs.CRS.from_string(UTM).to_wkt())
    capsys.readouterr()
    assert map_one(picture, out)["crs"] == UTM
    said = capsys.readouterr()
    assert "already mapped" not in said.out
    assert said.err == ""
    map_one(picture, out)
    assert "already mapped" in capsys.readouterr().out


def test_a_world_file_in_degrees_asks_for_the_coordinate_system(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "a.png"
    Image.fromarray(crossing(100, 100, 50, 50)).save(picture)
    (tmp_path / "a.pgw").write_text("1e-5\n0\n0\n-1e-5\n-71\n42\n")
    with pytest.raises(UserError):
        map_one(picture, tmp_path / "out")
    assert "or the coordinate system with --crs" in capsys.readouterr().err
    facts = map_one(picture, tmp_path / "out", crs="EPSG:4326")
    assert facts["metres_per_row"] == pytest.approx(1.1107, abs=1e-4)


def test_only_a_size_that_differs_is_resampled() -> None:
    assert model_shape((100, 200), None) == (100, 200)
    assert model_shape((100, 200), (1.015, 0.99)) == (100, 200)
    assert model_shape((100, 200), (0.5, 2.0)) == (50, 400)
    assert model_shape((1, 1), (0.1, 0.1)) == (1, 1)


@pytest.mark.parametrize("metres", [0.001, 30])
def test_pixel_sizes_out_of_range_are_refused(
    tmp_path: Path, metres: float, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = write_tiff(tmp_path / "a.tif", noise(30, 30), metres=metres)
    with pytest.raises(UserError, match="1 of 1 pictures"):
        map_one(picture, tmp_path / "out")
    assert "only 0.01 to 5.0 m are supported" in capsys.readouterr().err


def test_pictures_too_wide_for_memory_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predicting, "ROW_MEMORY", 64 * 14 * 100)
    picture = write_tiff(tmp_path / "a.tif", noise(30, 101))
    with pytest.raises(UserError):
        map_one(picture, tmp_path / "out")
    assert "Use a smaller --window" in capsys.readouterr().err
    map_one(picture, tmp_path / "out", window=32)


@pytest.mark.parametrize(("metres", "blurred"), [(1.0, 0), (0.5, 4), (2.0, 1)])
def test_blank_and_missing_areas_stay_empty(tmp_path: Path, metres: float, blurred: int) -> None:
    image = np.full((200, 200, 3), 220, np.uint8)  # road everywhere, were it not
    image[:90, :90] = 255
    image[150:, 150:] = 7
    picture = write_tiff(tmp_path / "a.tif", image, metres=metres, nodata=7)
    facts = map_one(picture, tmp_path / "out")
    probability, _, valid = band(tmp_path / "out/a_probability.tif")
    mask, _, _ = band(tmp_path / "out/a_mask.tif")
    missing, white, imagery = np.zeros((3, 200, 200), np.bool_)
    missing[150:, 150:] = True
    white[: 90 - blurred, : 90 - blurred] = True
    imagery[:] = ~missing
    imagery[: 90 + blurred, : 90 + blurred] = False
    for empty in (missing, white):
        assert not probability[empty].any()
        assert not mask[empty].any()
        assert not valid[empty].any()
    assert (probability[imagery] > 200 * 257).all()
    assert mask[imagery].all()
    assert valid[imagery].all()
    assert facts["imagery_fraction"] == pytest.approx((valid > 0).mean(), abs=1e-6)
    assert facts["road_fraction"] == 1


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_black_collar_of_an_orthophoto_has_no_road(tmp_path: Path, dtype: Any) -> None:
    def road_everywhere(windows: Image8) -> Float32:
        return np.ones(windows.shape[:3], np.float32)

    outside = np.arange(200) + np.arange(150)[:, None] < 180  # a triangle
    image = np.full((150, 200, 3), 100, dtype)
    image[outside] = 0
    picture = write_tiff(tmp_path / "a.tif", image, metres=1)
    facts = map_one(picture, tmp_path / "out", replace(BRIGHTNESS, predict=road_everywhere))
    collar = outside & (outside.sum(axis=1, keepdims=True) >= 16)
    for kind in ("probability", "mask"):
        values, _, valid = band(tmp_path / f"out/a_{kind}.tif")
        assert not values[collar].any()
        np.testing.assert_array_equal(valid == 0, collar)
        assert values[~collar].all()
    assert facts["imagery_fraction"] == pytest.approx(1 - collar.mean(), abs=1e-6)


@pytest.mark.parametrize(("rows", "said"), [(0, ""), (50, "12.5%"), (1, "0.2%"), (400, "100.0%")])
def test_the_fraction_without_imagery_is_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rows: int, said: str
) -> None:
    image = crossing(400, 100, 300, 50)
    image[:rows] = 9
    map_one(write_tiff(tmp_path / "a.tif", image, nodata=9), tmp_path / "out")
    line = capsys.readouterr().out
    assert line.count("imagery") == (2 if said else 1)
    assert f"; {said} of the picture has no imagery → " in line or not said


@pytest.mark.parametrize("value", [0, 255])
def test_a_picture_without_imagery_is_mapped_without_running_the_net(
    tmp_path: Path, value: int
) -> None:
    def never(windows: Image8) -> Float32:
        raise AssertionError(windows.shape)

    picture = write_tiff(tmp_path / "a.tif", np.full((150, 100, 3), value, np.uint8))
    facts = map_one(picture, tmp_path / "out", replace(BRIGHTNESS, predict=never))
    assert (facts["road_fraction"], facts["imagery_fraction"], facts["roads"]) == (0, 0, 0)
    assert lines(tmp_path / "out/a_roads.geojson") == []


def test_skipping_windows_without_imagery_does_not_change_the_map(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 240, (300, 64, 3), np.uint8)
    image[100:] = 255
    asked: list[int] = []

    def counting(windows: Image8) -> Float32:
        asked.append(len(windows))
        return brightness(windows)

    map_one(
        write_tiff(tmp_path / "a.tif", image),
        tmp_path / "out",
        replace(BRIGHTNESS, predict=counting),
    )
    assert sum(asked) == 3  # of the six windows, those from rows 0, 47 and 94
    probability, _, _ = band(tmp_path / "out/a_probability.tif")
    expected = np.rint(brightness(image[None])[0] * 65_535)
    np.testing.assert_allclose(probability[:100].astype(int), expected[:100], atol=1)
    assert not probability[100:].any()


def test_png_has_a_world_file_and_a_mask(tmp_path: Path) -> None:
    image = crossing(120, 100, 50, 50)
    image[:20, :20] = 9
    picture = write_tiff(tmp_path / "a.tif", image, metres=1, nodata=9)
    map_one(picture, tmp_path / "tif")
    map_one(picture, tmp_path / "png", format="png")
    for kind in ("probability", "mask"):
        expected, _, expected_valid = band(tmp_path / f"tif/a_{kind}.tif")
        values, profile, valid = band(tmp_path / f"png/a_{kind}.png")
        np.testing.assert_array_equal(valid, expected_valid)
        assert profile["driver"] == "PNG"
        assert profile["transform"] == place_of(1)
        assert profile["dtype"] == ("uint16" if kind == "probability" else "uint8")
        np.testing.assert_array_equal(values, expected)
    assert not list((tmp_path / "png").glob("*.tif"))


def layer(path: Path, name: str) -> tuple[Any, dict[str, NDArray[Any]], Any]:
    """A layer's geometries, its fields, and its coordinate system."""
    plain = shutil.copy(path, path.with_name("plain.gpkg"))  # pyogrio parses names
    about, _, geometries, fields = pyogrio.raw.read(plain, layer=name)
    return (
        shapely.from_wkb(geometries),
        dict(zip(about["fields"], fields, strict=True)),
        about["crs"],
    )


@pytest.mark.parametrize(
    ("name", "metres", "unit"), [("a.tif", 0.5, "m"), ("a.png", None, "px"), ("b! c?.png", 2, "m")]
)
def test_the_geopackage_has_roads_nodes_and_areas(
    tmp_path: Path, name: str, metres: float | None, unit: str
) -> None:
    """Of a picture with a place, of one without, and of one with --gsd and an odd name."""
    image, picture = crossing(240, 200, 80, 120, half=6), tmp_path / name
    if picture.suffix == ".tif":
        write_tiff(picture, image, metres=metres)
        transform, gsd = place_of(metres or 1), None
    else:
        Image.fromarray(image).save(picture)
        transform, gsd = rasterio.Affine.scale(1, -1), metres
    facts = map_one(picture, tmp_path / "out", gsd=gsd, polygons=True)
    pixel, stem = metres or 1, picture.stem
    assert f"{stem}_roads.gpkg" in facts["files"]
    path = tmp_path / f"out/{stem}_roads.gpkg"
    roads, of_roads, crs = layer(path, "roads")
    nodes, of_nodes, _ = layer(path, "nodes")
    assert crs == (UTM if transform == place_of(metres or 1) else None)
    columns, rows = ~transform @ shapely.get_coordinates(roads).T
    assert ((abs(rows - 80.5) < 1.5) | (abs(columns - 120.5) < 1.5)).all()
    for side, end in (("start", 0), ("end", -1)):
        assert (shapely.get_point(roads, end) == nodes[of_roads[side]]).all()
    assert sorted(of_nodes["degree"]) == [1, 1, 1, 1, 4]
    np.testing.assert_allclose(of_roads[f"width_{unit}"], 13 * pixel, atol=1.01 * pixel)
    assert of_roads[f"length_{unit}"].sum() == pytest.approx(439 * pixel, rel=0.01)
    told = [each["properties"] for each in lines(tmp_path / f"out/{stem}_roads.geojson")]
    assert told == [
        {key: values[n].item() for key, values in of_roads.items()} for n in range(len(roads))
    ]
    areas, of_areas, _ = layer(path, "areas")
    mask, _, _ = band(tmp_path / f"out/{stem}_mask.tif")
    outside = features.rasterize(areas, mask.shape, default_value=255, transform=transform) != mask
    assert not outside.any()
    assert of_areas[f"area_{unit}2"].sum() == pytest.approx((mask > 0).sum() * pixel**2, rel=1e-3)


@pytest.mark.parametrize("kind", ["probability", "mask"])
def test_geotiffs_are_cloud_optimized(tmp_path: Path, kind: str) -> None:
    image = crossing(700, 600, 300, 250)
    image[:100] = 255
    map_one(write_tiff(tmp_path / "a.tif", image, metres=1), tmp_path / "out")
    with quiet_gdal(), rasterio.open(tmp_path / f"out/a_{kind}.tif") as dataset:
        assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert dataset.overviews(1) == [2]
        assert dataset.descriptions[0].startswith("road")
        small = dataset.read(1, out_shape=(350, 300))
        assert not dataset.read_masks(1, out_shape=(350, 300))[:50].any()
        assert set(np.unique(small)) == {0, 255} or kind == "probability"


def test_the_overlay_and_pngs_are_placed_by_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roads.mapping.predicting.OVERLAY_SIDE", 60)
    picture, out = (
        write_tiff(tmp_path / "a.tif", crossing(120, 100, 50, 50), metres=1),
        tmp_path / "out",
    )
    map_one(picture, out, format="png")
    for name, pixels in (("overlay.jpg", 2), ("mask.png", 1)):
        sidecars = read_sidecars(out / f"a_{name}")
        assert sidecars.world == place_of(1) @ rasterio.Affine.scale(pixels)
        assert sidecars.prj is not None
        assert sidecars.prj.to_epsg() == int(UTM.removeprefix("EPSG:"))


def test_the_overlay_shows_road_over_the_picture_and_is_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roads.mapping.predicting.OVERLAY_SIDE", 150)
    image = np.full((300, 100, 3), (0, 0, 120), np.uint8)
    image[100:140] = 220
    map_one(write_tiff(tmp_path / "a.tif", image), tmp_path / "out")
    with Image.open(tmp_path / "out/a_overlay.jpg") as picture:
        overlay = np.asarray(picture).astype(int)
    assert overlay.shape == (150, 50, 3)
    np.testing.assert_allclose(overlay[10, 25], (0, 0, 120), atol=12)
    np.testing.assert_allclose(overlay[54, 25], (225, 125, 125), atol=12)  # half red
    assert overlay[57:63, 25, 2].min() < 90  # the centreline is yellow


def test_broken_pictures_are_reported_and_the_others_are_mapped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    Image.fromarray(noise(40, 40)).save(folder / "good.png")
    Image.fromarray(noise(400, 400)).save(folder / "half.png")
    (folder / "half.png").write_bytes((folder / "half.png").read_bytes()[:5000])
    (folder / "begin.tif").write_bytes(b"II*\0")
    others = [tmp_path / "gone.tif", tmp_path / "text.tif"]
    others[1].write_text("no picture")
    pictures = [*find_pictures([folder], tmp_path / "out", "tif"), *others]
    with pytest.raises(UserError, match="4 of 5 pictures"):
        map_roads(pictures, tmp_path / "out", BRIGHTNESS, options(gsd=1.0), force=False)
    said = capsys.readouterr().err.splitlines()
    errors = [line for line in said if line != f"predict: {predicting.FEW_ROADS}"]
    assert [line.split()[1].rsplit("/", 1)[1] for line in errors] == [
        "begin.tif", "half.png", "gone.tif", "text.tif",
    ]  # fmt: skip
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert "good.json" in names
    assert all(name.startswith("good") for name in names)


@pytest.mark.slow
def test_names_are_printed_escaped_on_any_terminal(tmp_path: Path) -> None:
    names = ["1\x1b[2J\n.tif", "2→$\\frac$.tif", os.fsdecode(b"3\xff.tif"), "4\x1b.tif"]
    for name in names[:3]:
        write_tiff(tmp_path / "a.tif", noise(40, 40)).rename(tmp_path / name)
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from roads.mapping.predicting import map_roads\n"
        "from roads.runtime.errors import exit_status\n"
        "from tests.pictures import BRIGHTNESS, options\n"
        "pictures = list(map(Path, sys.argv[2:]))\n"
        "how = {'options': options(gsd=1.0), 'force': False}\n"
        "sys.exit(exit_status(lambda: map_roads(pictures, Path(sys.argv[1]), BRIGHTNESS, **how)))\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "out", *(tmp_path / name for name in names)],
        cwd=ROOT, env=os.environ | {"PYTHONIOENCODING": "ascii"}, capture_output=True, text=True,
    )  # fmt: skip
    assert answer.returncode == 1
    done = answer.stdout.splitlines()
    assert [line.split(": ")[0] for line in done] == [
        rf"{tmp_path}/1\x1b[2J\n.tif", rf"{tmp_path}/2\u2192$\frac$.tif",
    ]  # fmt: skip
    assert answer.stderr.splitlines() == [
        f"predict: {predicting.FEW_ROADS}",
        rf"error: {tmp_path}/3\udcff.tif has a name that is not valid UTF-8. Rename it.",
        rf"error: {tmp_path}/4\x1b.tif is missing; only local files are read, no URLs",
        "error: 2 of 4 pictures could not be mapped, see above",
    ]


@pytest.mark.slow
def test_finished_maps_are_kept_and_changed_pictures_mapped_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = write_tiff(tmp_path / "a.tif", crossing(70, 70, 30, 30), metres=1)
    out = tmp_path / "out"
    facts = out / "a.json"

    def redone(model: Model = BRIGHTNESS, force: bool = False, **changes: Any) -> bool:
        before = facts.stat().st_ino
        map_roads([picture], out, model, options(**changes), force=force)
        said = "already mapped" not in capsys.readouterr().out
        assert said == (facts.stat().st_ino != before)
        return said

    map_one(picture, out)
    capsys.readouterr()
    assert not redone()
    assert redone(force=True)
    assert redone(threshold=0.7)
    assert redone(threshold=0.7, model=replace(BRIGHTNESS, sha256="1" * 64))
    assert redone(threshold=0.7, model=replace(BRIGHTNESS, sha256="1" * 64, temperature=2.0))
    assert redone(threshold=0.7)
    (out / "a_mask.tif").unlink()
    assert redone(threshold=0.7)
    for name in ("a_probability.tif", "a_mask.tif", "a_overlay.jpg", "a_roads.gpkg"):
        (out / name).write_bytes(b"")  # as after a power cut
        assert redone(threshold=0.7)
    assert not redone(threshold=0.7)
    write_tiff(picture, crossing(70, 70, 40, 40), metres=1)
    assert redone(threshold=0.7)
    (out / "a_mask.png").touch()  # the user's, as long as a map is written in another format
    (out / "a_mask.tfw").touch()
    assert redone(threshold=0.6)
    (out / "a_mask.png").unlink()
    assert redone(threshold=0.7, format="png")
    assert not list(out.glob("*.tif"))
    (out / "a_mask.tfw").unlink()
    assert redone(threshold=0.7)
    assert not list(out.glob("*.p*g*"))


def test_a_failed_run_keeps_the_old_map_and_leaves_no_part_of_a_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = write_tiff(tmp_path / "a.tif", crossing(70, 70, 30, 30))
    out = tmp_path / "out"
    map_one(picture, out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(predicting, "write_geojson", full)
    with pytest.raises(UserError):
        map_one(picture, out, threshold=0.6)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_leftovers_are_removed_and_a_second_writer_is_refused(tmp_path: Path) -> None:
    picture = write_tiff(tmp_path / "a.tif", noise(40, 40))
    out = tmp_path / "out"
    for name in (".gone.roads-map.partial", ".mine.partial"):
        (out / name).mkdir(parents=True)
        (out / name / "gone_mask.tif").touch()
    (out / ".lock").write_text("mine")

    def second(windows: Image8) -> Float32:
        with pytest.raises(UserError, match="another run is writing"):
            map_one(picture, out)
        return brightness(windows)

    map_one(picture, out, replace(BRIGHTNESS, predict=second))
    assert {path.name for path in out.glob(".*")} == {".mine.partial", ".lock"}
    assert (out / ".mine.partial/gone_mask.tif").exists()
    assert (out / ".lock").read_text() == "mine"


@pytest.mark.parametrize("moved", range(7))
def test_a_map_is_complete_after_a_kill_while_files_are_moved(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], moved: int
) -> None:
    picture = write_tiff(tmp_path / "a.tif", crossing(70, 70, 30, 30))
    out, ready = tmp_path / "out", tmp_path / "out/.a.roads-map"
    map_one(picture, out)
    whole = {path.name: path.read_bytes() for path in out.iterdir()}
    ready.mkdir()
    for name in sorted(whole, key=lambda name: name == "a.json")[moved:]:
        (out / name).replace(ready / name)
    if moved == 0:  # there may be an earlier map, of another format
        map_one(picture, tmp_path / "png", format="png")
        for path in (tmp_path / "png").iterdir():
            path.replace(out / path.name)
    assert find_pictures([picture], out, "tif") == [picture]
    capsys.readouterr()
    map_one(picture, out)
    assert "already mapped" in capsys.readouterr().out
    assert {path.name: path.read_bytes() for path in out.iterdir()} == whole


@pytest.mark.parametrize(
    ("format", "name"),
    [
        *(("tif", f"7{end}") for end in ("_mask.tif", "_overlay.jpg", "_roads.geojson", ".json")),
        *(("png", f"7{end}") for end in ("_probability.png", "_mask.pgw", "_mask.png.msk")),
    ],
)
def test_files_of_the_user_are_not_replaced(tmp_path: Path, format: str, name: str) -> None:
    picture, out = tmp_path / "7.tif", tmp_path / "out"
    picture.touch()
    out.mkdir()
    for there in ("7_mask.csv", "8_mask.tif"):
        (out / there).touch()
    assert find_pictures([picture], out, format) == [picture]
    (out / name).write_text('{"files": {}}')
    with pytest.raises(UserError, match=rf"out/{name} would be replaced.* Choose another --out"):
        find_pictures([picture], out, format)
    (out / name).unlink()
    (out / name).symlink_to("nowhere")
    with pytest.raises(UserError, match=rf"out/{name} would be replaced"):
        find_pictures([picture], out, format)


def test_facts_with_files_of_another_name_are_not_trusted(tmp_path: Path) -> None:
    picture, out = write_tiff(tmp_path / "a.tif", noise(40, 40)), tmp_path / "out"
    facts = map_one(picture, out)
    facts["files"] |= {"../a.tif": picture.stat().st_size}
    (out / "a.json").write_text(json.dumps(facts))
    with pytest.raises(UserError, match=r"out/a_probability\.tif and 5 more would be replaced"):
        find_pictures([picture], out, "tif")


def test_a_result_that_the_user_edited_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture, out = write_tiff(tmp_path / "a.tif", noise(40, 40)), tmp_path / "out"
    map_one(picture, out)
    (out / "a_roads.geojson").write_text("edited")
    for force in (True, False):
        with pytest.raises(UserError, match="1 of 1"):
            map_roads([picture], out, BRIGHTNESS, options(), force=force)
        assert "a_roads.geojson was changed after it was written" in capsys.readouterr().err
    assert (out / "a_roads.geojson").read_text() == "edited"
    (out / "a_roads.geojson").rename(tmp_path / "mine.geojson")
    map_one(picture, out)
    assert lines(out / "a_roads.geojson") == []


def test_pictures_with_the_same_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    Image.fromarray(noise(4, 4)).save(tmp_path / "in/a.tif")
    for other in ("a.png", "A.png"):
        Image.fromarray(noise(4, 4)).save(tmp_path / "in" / other)
        told = rf"{other} and .*a\.tif would produce files with the same names"
        with pytest.raises(UserError, match=told):
            find_pictures([tmp_path / "in"], tmp_path / "out", "tif")
        (tmp_path / "in" / other).unlink()
    with pytest.raises(UserError, match="is in the output folder"):
        find_pictures([tmp_path / "in/a.tif"], tmp_path / "in", "tif")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="has no pictures; --recursive searches its subfolders too"):
        find_pictures([tmp_path / "empty"], tmp_path / "out", "tif")


def test_only_pictures_of_a_folder_are_used_and_other_files_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = tmp_path / "in", tmp_path / "in/deep/out"
    for path in (folder / "deep/er/c.jpg", folder / "deep/.cache/d.png", out / "e.png"):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise(4, 4)).save(path)
    Image.fromarray(noise(4, 4)).save(folder / ".hidden.png")
    Image.fromarray(noise(4, 4)).save(folder / "b", "WEBP")
    write_tiff(folder / "a.tif", noise(4, 4))
    for name in ("a.tif.msk", "a.TIF.OVR", "a.tif.original"):
        shutil.copy(folder / "a.tif", folder / name)
    for name in ("a.shp", "a.dbf", "a.tfw", "a.txt", "Thumbs.db", "zero.jpg", "deep/a.csv"):
        (folder / name).touch()
    (folder / "a.vrt").write_text(VRT)
    (folder / "BM.txt").write_text("BM is the name of a text")
    (folder / "link").symlink_to(folder / "deep")
    os.mkfifo(folder / "pipe")
    assert find_pictures([folder], out, "tif") == [folder / "a.tif", folder / "b"]
    assert capsys.readouterr().err == (
        f"predict: 11 files in {folder} are not pictures: BM.txt, Thumbs.db, a.TIF.OVR, a.dbf, "
        "a.shp, a.tfw, a.tif.msk, a.tif.original, a.txt, a.vrt, zero.jpg\n"
    )
    found = find_pictures([folder], out, "tif", recursive=True)
    assert found == [folder / name for name in ("a.tif", "b", "deep/er/c.jpg")]
    assert "12 files in" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"deep has no pictures; --recursive searches"):
        find_pictures([folder / "deep"], out, "tif")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"empty has no pictures$"):
        find_pictures([tmp_path / "empty"], out, "tif", recursive=True)
