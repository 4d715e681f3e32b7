"""The page to look at: whole in one file, its data right, and safe whatever a picture's name."""

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from roads.mapping import page
from roads.mapping.page import LineLayer, write_page
from roads.mapping.predicting import map_roads
from roads.mapping.rasters import open_raster
from tests.pictures import BRIGHTNESS, crossing, options, write_tiff


class Page(HTMLParser):
    """The text of each element of a page by its tag, and all addresses it names."""

    def __init__(self, path: Path):
        super().__init__()
        self.texts: dict[str, list[str]] = {}
        self.addresses: list[str | None] = []
        self._tag = ""
        self.feed(path.read_text("utf-8"))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._tag = tag
        self.texts.setdefault(tag, []).append("")
        self.addresses += [value for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        if self._tag:
            self.texts[self._tag][-1] += data

    @property
    def data(self) -> dict[str, Any]:
        data: dict[str, Any] = json.loads(self.texts["script"][0])
        return data


def image_of(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


def map_to_page(picture: Path) -> tuple[Page, list[dict[str, Any]]]:
    """The page of a picture, and the features of its GeoJSON."""
    out = picture.parent / "out"
    map_roads([picture], out, BRIGHTNESS, options(html=True), force=False)
    facts = json.loads((out / f"{picture.stem}.json").read_text())
    assert f"{picture.stem}_map.html" in facts["files"]
    features = json.loads((out / f"{picture.stem}_roads.geojson").read_text())["features"]
    return Page(out / f"{picture.stem}_map.html"), features


def test_a_page_needs_no_other_file(tmp_path: Path) -> None:
    shown, _ = map_to_page(write_tiff(tmp_path / "a.tif", crossing(300, 280, 100, 150)))
    assert shown.addresses == []
    assert not re.search(r"url\(|@import", "".join(shown.texts["style"]))
    assert all(re.match("data:image/", shown.data[key]) for key in ("picture", "probability"))


@pytest.mark.parametrize("metres", [None, 0.5])
def test_a_page_shows_what_the_other_files_hold(tmp_path: Path, metres: float | None) -> None:
    image = crossing(300, 280, 100, 150, half=6)
    shown, features = map_to_page(write_tiff(tmp_path / "a.tif", image, metres=metres))
    data = shown.data
    assert np.asarray(image_of(data["picture"])).shape == image.shape
    probability = np.asarray(image_of(data["probability"]).convert("RGBA"))
    assert (probability[100, 20, 3], probability[100, 20, 0] > 200) == (255, True)  # yellow
    assert probability[20, 20, 3] < 150

    (layer,) = data["layers"]
    facts = [feature["properties"] for feature in features]
    key, unit = ("length_m", "m") if metres else ("length_px", "pixels")
    assert len(features) == 4
    assert [line["facts"] for line in layer["lines"]] == [
        {"length": f"{each[key]:.1f} {unit}", "probability": f"{each['probability']:.3f}"}
        for each in facts
    ]
    points = [point for line in layer["lines"] for point in line["points"]]
    if metres is None:
        assert (data["metres"], data["lonlat"]) == (None, None)
        there = [point[::-1] for each in features for point in each["geometry"]["coordinates"]]
        np.testing.assert_allclose(points, there, atol=0.06)
    else:
        assert data["metres"] == pytest.approx([metres, metres], rel=1e-3)
        y, x = np.transpose(points)
        there = np.array(data["lonlat"]) @ [np.ones_like(x), x, y, x * x, x * y, y * y]
        coordinates = [each["geometry"]["coordinates"] for each in features]
        np.testing.assert_allclose(there.T, np.concatenate(coordinates), rtol=0, atol=1e-6)


def test_a_large_picture_is_reduced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "SIDE", 100)
    shown, _ = map_to_page(write_tiff(tmp_path / "a.tif", crossing(300, 150, 100, 75)))
    for key in ("picture", "probability"):
        assert image_of(shown.data[key]).size == (50, 100)
    assert (shown.data["width"], shown.data["height"]) == (150, 300)


def test_names_are_never_run_as_code(tmp_path: Path) -> None:
    name = "\"'<!--<script>&amp;{{data}}ü.tif"
    layer = LineLayer("</script><b>", [np.array([[0.0, 0], [9, 9]])], [{"<i>": "</script>"}], "red")
    with open_raster(write_tiff(tmp_path / name, crossing(60, 50, 20, 25))) as raster:
        zeros = np.zeros(raster.shape, np.uint16)
        write_page(tmp_path / "a.html", raster, lambda a, b: zeros[a:b], None, [layer])
    shown = Page(tmp_path / "a.html")
    assert [text.strip() for text in shown.texts["title"]] == [name]
    assert len(shown.texts["script"]) == 3
    assert shown.data["name"] == name
    assert shown.data["layers"][0]["name"] == layer.name
    assert shown.data["layers"][0]["lines"] == [
        {"points": [[0.5, 0.5], [9.5, 9.5]], "facts": {"<i>": "</script>"}, "colour": "red"}
    ]
