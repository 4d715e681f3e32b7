"""The generated tiles: layout, same bytes everywhere, and a fair small test of a road finder."""

import hashlib
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from roads.dataset.tiles import Tile, read_pair
from roads.imagery.blank import blank_fraction
from roads.parallel.pool import WORKERS_VARIABLE
from roads.runtime.arrays import Image8
from roads.runtime.names import SPLITS
from roads.sources import sample
from roads.sources.scenery.plan import Plan, Road
from roads.sources.scenery.streets import make_plan

SEED = 1
RELEASED = "a7da722eb6c27840190b729c0577ded239346c6369f2488ff0bc77f908cd64ba"
ROAD = 100  # a map pixel above it is road
LARGEST_REAL_EAST = 2717  # the first four digits of the published names end here


def digest(*pictures: Image8) -> str:
    return hashlib.sha256(b"".join(picture.tobytes() for picture in pictures)).hexdigest()


def fetch(raw: Path, **counts: int) -> list[Tile]:
    counts = {"train": 1, "valid": 1, "test": 1} | counts
    return sample.fetch(raw, seed=SEED, size=256, **counts)


@pytest.fixture(scope="module")
def pairs() -> list[tuple[Image8, Image8]]:
    """Ten tiles of 512 pixels, images and maps."""
    return [sample.generate(SEED, 512, "valid", number) for number in range(10)]


def test_layout_is_that_of_the_real_tiles(tmp_path: Path) -> None:
    tiles = fetch(tmp_path, train=3, valid=2, test=1)
    assert [tile.split for tile in tiles] == ["train"] * 3 + ["valid"] * 2 + ["test"]
    listed = {stored.path for tile in tiles for stored in (tile.image, tile.map)}
    found = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    assert found == listed
    for tile in tiles:
        assert tile.image.path == f"{tile.split}/sat/{tile.name}.tiff"
        assert tile.map.path == f"{tile.split}/map/{tile.name}.tif"
        image, map_ = read_pair(tmp_path, tile)
        assert image.shape == (256, 256, 3)
        assert map_.shape == (256, 256)
        data = (tmp_path / tile.map.path).read_bytes()
        assert (tile.map.bytes, tile.map.sha256) == (len(data), hashlib.sha256(data).hexdigest())
        with Image.open(tmp_path / tile.image.path) as picture:
            assert (picture.format, picture.mode) == ("TIFF", "RGB")
            assert picture.info["compression"] == "raw"


def test_names_have_the_real_form_but_are_made_up() -> None:
    orders = [
        sample._Order(Path(), SEED, 256, split, number) for split in SPLITS for number in range(200)
    ]
    names = {order.name for order in orders}
    assert len(names) == len(orders)
    assert all(re.fullmatch(r"\d{8}_15", name) for name in names)
    assert all(int(name[:4]) > LARGEST_REAL_EAST for name in names)


def test_bytes_do_not_depend_on_the_number_of_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(WORKERS_VARIABLE, "1")
    alone = fetch(tmp_path / "alone", train=3)
    monkeypatch.setenv(WORKERS_VARIABLE, "2")
    assert fetch(tmp_path / "pair", train=3) == alone


def test_a_tile_does_not_depend_on_the_number_of_tiles(tmp_path: Path) -> None:
    few, more = fetch(tmp_path / "few"), fetch(tmp_path / "more", test=2)
    assert more[:3] == few
    digests = {tile.image.sha256 for tile in more} | {tile.map.sha256 for tile in more}
    assert len(digests) == 2 * len(more)


def test_another_seed_makes_other_places() -> None:
    first, second = (sample.generate(seed, 256, "train", 0) for seed in (1, 2))
    assert not np.array_equal(first[0], second[0])
    assert not np.array_equal(first[1], second[1])


def test_bytes_stay_as_released() -> None:
    # A change here changes every hash in dvc.lock: make it on purpose, and run the pipeline.
    assert digest(*sample.generate(SEED, 300, "train", 2)) == RELEASED


@pytest.mark.slow
def test_bytes_do_not_depend_on_the_processor() -> None:
    script = (
        "import hashlib, numpy\n"
        "assert not numpy._core._multiarray_umath.__cpu_features__['X86_V3']\n"
        "from roads.sources.sample import generate\n"
        f"pair = generate({SEED}, 300, 'train', 2)\n"
        "print(hashlib.sha256(b''.join(part.tobytes() for part in pair)).hexdigest())\n"
    )
    if not np._core._multiarray_umath.__cpu_features__["X86_V3"]:  # type: ignore[attr-defined]
        pytest.skip("this processor has no features to switch off")
    disabled = {"NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR X86_V3"}
    answer = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, **disabled},
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout.strip() == digest(*sample.generate(SEED, 300, "train", 2))


def test_one_training_tile_lacks_much_imagery_and_one_a_little() -> None:
    shares = [blank_fraction(sample.generate(SEED, 300, "train", number)[0]) for number in range(5)]
    assert 0.25 < shares[1] < 0.5
    assert 0.05 <= shares[2] <= 0.1
    assert [shares[0], *shares[3:]] == [0, 0, 0]
    assert blank_fraction(sample.generate(SEED, 300, "test", 1)[0]) == 0


def test_missing_imagery_is_pure_white_and_its_map_still_shows_roads() -> None:
    image, map_ = sample.generate(SEED, 512, "train", 1)
    white = (image == 255).all(axis=2)
    assert 0.3 < white.mean() < 0.42
    assert image[~white].max() < 250
    assert (map_[white] > ROAD).mean() > 0.01


@pytest.mark.parametrize(("dx", "dy"), [(1.0, 0.0), (0.8, 0.6), (0.6, -0.8)])
def test_roads_in_the_map_are_seven_pixels_wide(dx: float, dy: float) -> None:
    points = [(50.3 + dx * step, 60.7 + dy * step) for step in range(0, 41, 8)]
    road = Road(points, "street", 9.0, mapped=True, shift=(0, 0))
    map_ = sample.draw_map(_plan_of(road, 128))
    longer = sample.draw_map(_plan_of(replace(road, points=[*points, _beyond(points)]), 128))
    area = (longer.astype(float).sum() - map_.astype(float).sum()) / 255
    assert area / 8 == pytest.approx(sample.ROAD_WIDTH, abs=0.35)
    assert ((map_ > 0) & (map_ < 255)).any()


def _beyond(points: list[tuple[float, float]]) -> tuple[float, float]:
    (x0, y0), (x1, y1) = points[-2:]
    return (2 * x1 - x0, 2 * y1 - y0)


def _plan_of(road: Road, size: int) -> Plan:
    return Plan(size, [], np.zeros((size, size), np.uint16), [], [], [road])


@pytest.mark.slow
def test_maps_have_grey_edges(pairs: list[tuple[Image8, Image8]]) -> None:
    levels = np.concatenate([map_.ravel() for _, map_ in pairs])
    grey = ((levels > 0) & (levels < 255)).mean()
    assert 0.1 < grey / (levels > ROAD).mean() < 0.5


def test_maps_lack_some_roads_and_have_some_a_pixel_off() -> None:
    roads = [
        road for seed in range(5) for road in make_plan(np.random.default_rng(seed), 1000).roads
    ]
    left_out = sum(not road.mapped for road in roads) / len(roads)
    shifted = sum(road.shift != (0, 0) for road in roads) / len(roads)
    assert 0.02 < left_out < 0.2
    assert 0.1 < shifted < 0.4
    assert all(abs(x) + abs(y) <= 1 for x, y in (road.shift for road in roads))
    assert {"highway", "main", "collector", "street", "lane"} == {road.kind for road in roads}
    assert any(road.turning_circle for road in roads)


def test_a_road_left_out_of_the_map_is_in_the_image() -> None:
    number, road = next(
        (number, road)
        for number in range(20)
        for road in make_plan(_generator(number), 512).roads
        if not road.mapped and all(40 < value < 470 for point in road.points for value in point)
    )
    image, map_ = sample.generate(SEED, 512, "valid", number)
    x, y = (np.array(values).astype(int) for values in zip(*road.points, strict=True))
    assert (map_[y, x] <= ROAD).mean() > 0.5
    colours = image[y, x].astype(int)
    # Grey or pale brown, unlike grass and trees.
    assert np.median(colours.max(axis=1) - colours.min(axis=1)) < 45
    assert np.median(colours) > 70


def _generator(number: int) -> np.random.Generator:
    return sample._generator(SEED, "valid", number)


@pytest.mark.slow
def test_share_of_road_is_near_that_of_the_real_maps() -> None:
    plans = [make_plan(_generator(number), 1500) for number in range(10)]
    share = np.mean([(sample.draw_map(plan) > ROAD).mean() for plan in plans])
    assert share == pytest.approx(0.048, abs=0.008)


@pytest.mark.slow
@pytest.mark.parametrize("channel", ["red", "green", "blue", "grey"])
def test_no_threshold_on_one_channel_finds_the_roads(
    pairs: list[tuple[Image8, Image8]], channel: str
) -> None:
    road = np.concatenate([(map_ > ROAD).ravel() for _, map_ in pairs])
    if channel == "grey":
        grey = [np.asarray(Image.fromarray(image).convert("L")) for image, _ in pairs]
        levels = np.concatenate([picture.ravel() for picture in grey])
    else:
        index = ["red", "green", "blue"].index(channel)
        levels = np.concatenate([image[..., index].ravel() for image, _ in pairs])
    hits = np.bincount(levels[road], minlength=256)
    all_ = np.bincount(levels, minlength=256)
    for order in (slice(None), slice(None, None, -1)):
        dice = 2 * hits[order].cumsum() / (all_[order].cumsum() + road.sum())
        assert dice.max() < 0.35
