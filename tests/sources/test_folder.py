from pathlib import Path

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin, TiffTags

from roads.dataset.tiles import read_pair
from roads.runtime.errors import UserError
from roads.sources.folder import fetch
from tests.tiles import picture, road_map


def put(path: Path, kind: str = "image", size: tuple[int, int] = (40, 50)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = picture(*size) if kind == "image" else road_map(*size)
    Image.fromarray(pixels).save(path)


def fetched(tmp_path: Path) -> dict[str, str]:
    """name → split, after every pair was read back."""
    tiles = fetch(tmp_path / "raw", folder=tmp_path / "own")
    for tile in tiles:
        image, map_ = read_pair(tmp_path / "raw", tile)
        assert image.shape == (*map_.shape, 3)
        assert tile.image.path == f"{tile.split}/sat/{tile.name}{Path(tile.image.path).suffix}"
    return {tile.name: tile.split for tile in tiles}


@pytest.mark.parametrize("val", ["valid", "val", "validation"])
@pytest.mark.parametrize("names", [("sat", "map"), ("images", "masks"), ("images", "groundtruth")])
def test_folders_by_split(tmp_path: Path, val: str, names: tuple[str, str]) -> None:
    for number, split in enumerate(["train", val, "test"]):
        put(tmp_path / "own" / split / names[0] / f"{number}.jpg")
        put(tmp_path / "own" / split / names[1] / f"{number}.png", "map")
    assert fetched(tmp_path) == {"0": "train", "1": "valid", "2": "test"}


@pytest.mark.parametrize("inside", ["", "tiff"])
def test_kaggles_layout(tmp_path: Path, inside: str) -> None:
    for number, split in enumerate(["train", "val", "test"]):
        put(tmp_path / "own" / inside / split / f"{number}.tiff")
        put(tmp_path / "own" / inside / f"{split}_labels" / f"{number}.tif", "map")
    assert fetched(tmp_path) == {"0": "train", "1": "valid", "2": "test"}


def test_flat_folders_without_splits(tmp_path: Path) -> None:
    put(tmp_path / "own" / "images" / "a.PNG")
    put(tmp_path / "own" / "masks" / "a.tif", "map")
    (tmp_path / "own" / "images" / "notes.txt").write_text("not a picture")
    assert fetched(tmp_path) == {"a": "train"}


@pytest.mark.parametrize("split", ["", "train"])
def test_pairs_side_by_side(tmp_path: Path, split: str) -> None:
    put(tmp_path / "own" / split / "7_sat.jpg")
    put(tmp_path / "own" / split / "7_mask.png", "map")
    assert fetched(tmp_path) == {"7": "train"}


def test_the_copies_are_the_bytes_of_the_originals(tmp_path: Path) -> None:
    put(tmp_path / "own" / "sat" / "a.png")
    put(tmp_path / "own" / "map" / "a.png", "map")
    fetched(tmp_path)
    original = tmp_path / "own" / "sat" / "a.png"
    copy = tmp_path / "raw" / "train" / "sat" / "a.png"
    assert copy.read_bytes() == original.read_bytes()
    assert not copy.samefile(original)


def test_pictures_without_partner_are_listed(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        put(tmp_path / "own" / "sat" / f"{name}.png")
    for name in ("a", "d"):
        put(tmp_path / "own" / "map" / f"{name}.png", "map")
    with pytest.raises(UserError, match=r"3 pictures have no partner .*: map/d.png, sat/b.png"):
        fetch(tmp_path / "raw", folder=tmp_path / "own")


@pytest.mark.parametrize(
    ("image", "map_"), [("e\u0301.png", "\u00e9.png"), ("A.png", "a.png"), ("a.png", "a_mask.png")]
)
def test_a_pair_that_nearly_matches_is_named(tmp_path: Path, image: str, map_: str) -> None:
    put(tmp_path / "own" / "sat" / image)
    put(tmp_path / "own" / "map" / map_, "map")
    with pytest.raises(UserError, match="2 pictures have no partner") as refused:
        fetch(tmp_path / "raw", folder=tmp_path / "own")
    assert f"map/{map_} and sat/{image} differ only in case" in str(refused.value)


def test_what_belongs_to_no_pair_is_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in ("a.png", "more/\x1b[2J\n.png"):
        put(tmp_path / "own" / "images" / path)
        put(tmp_path / "own" / "masks" / path, "map")
    (tmp_path / "own" / "notes.txt").touch()
    assert fetched(tmp_path) == {"a": "train"}
    assert "2 pictures in" in (told := capsys.readouterr().err)
    assert told.endswith("images/more/\\x1b[2J\\n.png, masks/more/\\x1b[2J\\n.png\n")


def test_deepglobes_splits_without_maps_are_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path / "own" / "train" / "7_sat.jpg")
    put(tmp_path / "own" / "train" / "7_mask.png", "map")
    put(tmp_path / "own" / "train" / "8-sat.jpg")
    for split in ("valid", "test"):
        put(tmp_path / "own" / split / "9_sat.jpg")
    assert fetched(tmp_path) == {"7": "train"}
    assert "3 pictures in" in capsys.readouterr().err


def test_linked_and_hidden_pictures_are_not_reported_as_ignored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path / "own" / "real" / "a.png")
    put(tmp_path / "own" / "real" / "._a.png")
    put(tmp_path / "own" / "map" / "a.png", "map")
    (tmp_path / "own" / "sat").symlink_to("real")
    assert fetched(tmp_path) == {"a": "train"}
    assert "left out" not in capsys.readouterr().err


def test_an_image_and_a_map_of_two_sizes(tmp_path: Path) -> None:
    put(tmp_path / "own" / "sat" / "a.png", size=(40, 50))
    put(tmp_path / "own" / "map" / "a.png", "map", size=(40, 40))
    with pytest.raises(UserError, match=r"own/map/a\.png is 40×40 pixels, but its image"):
        fetch(tmp_path / "raw", folder=tmp_path / "own")


def test_a_broken_picture_is_named_where_the_user_keeps_it(tmp_path: Path) -> None:
    put(tmp_path / "own" / "sat" / "a.png")
    put(tmp_path / "own" / "map" / "a.png", "map")
    path = tmp_path / "own" / "sat" / "a.png"
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(UserError, match=r"own/sat/a\.png is broken"):
        fetch(tmp_path / "raw", folder=tmp_path / "own")


def test_one_name_twice(tmp_path: Path) -> None:
    for split in ("train", "test"):
        put(tmp_path / "own" / split / "sat" / "a.png")
        put(tmp_path / "own" / split / "map" / "a.png", "map")
    with pytest.raises(UserError, match="the same names in two splits: a"):
        fetch(tmp_path / "raw", folder=tmp_path / "own")
    put(tmp_path / "own" / "train" / "sat" / "a.jpg")
    with pytest.raises(UserError, match="have the same name"):
        fetch(tmp_path / "raw", folder=tmp_path / "own")


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    put(tmp_path / "secret.png")
    put(tmp_path / "own" / "map" / "a.png", "map")
    (tmp_path / "own" / "sat").mkdir()
    (tmp_path / "own" / "sat" / "a.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(UserError, match="is a link to a file outside"):
        fetch(tmp_path / "raw", folder=tmp_path / "own")


@pytest.mark.parametrize(
    ("paths", "told"),
    [
        ((), "NAME_sat.jpg \\+ NAME_mask.png. $"),
        (("roads/train/sat/a.png", "roads/train/map/a.png"), "own/roads has pairs: set download"),
        (
            ("x/rgb/a.png", "x/gt/a.tif"),
            "own/x/gt and .*/own/x/rgb have pictures with the same names: rename the folder of the "
            "images to sat, and that of the maps to map",
        ),
    ],
)
def test_the_nearest_layout_is_named_for_an_unknown_one(
    tmp_path: Path, paths: tuple[str, ...], told: str
) -> None:
    (tmp_path / "own").mkdir()
    for path in paths:
        put(tmp_path / "own" / path)
    with pytest.raises(UserError, match=f"own has no pairs in a known layout.*{told}"):
        fetch(tmp_path / "raw", folder=tmp_path / "own")


def test_a_relative_folder_is_in_the_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder, told in (("data/own", "has no pairs"), ("nowhere", "is not a directory")):
        (tmp_path / "data/own").mkdir(parents=True, exist_ok=True)
        with pytest.raises(UserError, match=f"/{folder}.*{told}.* absolute path if .* `--temp`"):
            fetch(tmp_path / "raw", folder=Path(folder))
    put(tmp_path / "data/own/sat/a.png")
    put(tmp_path / "data/own/map/a.png", "map")
    assert [tile.name for tile in fetch(tmp_path / "raw", folder=Path("data/own"))] == ["a"]


@pytest.mark.parametrize(
    ("tags", "told"),
    [
        ({33550: (2.0, 2.0, 0.0), 33922: (0.0, 0.0, 0.0, 1000.0, 5000.0, 0.0)}, None),
        ({33550: (2.0, 2.0, 0.0), 33922: (10.0, 20.0, 0.0, 1020.0, 4960.0, 0.0)}, None),
        ({33550: (2.0, 2.0, 0.0), 33922: (0.5, 0.5, 0.0, 1000.0, 5000.0, 0.0)}, None),
        ({33550: (2.0, 2.0, 0.0), 33922: (0.0, 0.0, 0.0, 1060.0, 5080.0, 0.0)}, "by 50 pixels"),
        (
            {34264: (2.0, 0, 0, 1000.0, 0, -2.0, 0, 5200.0, 0, 0, 0, 0, 0, 0, 0, 1.0)},
            "by 100 pixels",
        ),
        ({33550: (2.0,), 33922: (0.0, 0.0)}, None),
    ],
    ids=["same", "other tie point", "middle of the pixel", "elsewhere", "by a matrix", "broken"],
)
def test_an_image_and_a_map_at_two_places_are_named(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    tags: dict[int, tuple[float, ...]],
    told: str | None,
) -> None:
    image_tags = {33550: (2.0, 2.0, 0.0), 33922: (0.0, 0.0, 0.0, 1000.0, 5000.0, 0.0)}
    for kind, each in (("sat", image_tags), ("map", tags)):
        (tmp_path / "own" / kind).mkdir(parents=True)
        directory = TiffImagePlugin.ImageFileDirectory_v2()
        for tag, values in each.items():
            directory[tag] = values
            directory.tagtype[tag] = TiffTags.DOUBLE
        pixels = picture(40, 50) if kind == "sat" else road_map(40, 50)
        Image.fromarray(pixels).save(tmp_path / "own" / kind / "a.tif", tiffinfo=directory)
    assert fetched(tmp_path) == {"a": "train"}
    errors = capsys.readouterr().err
    assert (f"1 images are shifted against their maps: a.tif and a.tif {told}" in errors) == bool(
        told
    )


def test_grey_palette_and_alpha_are_accepted(tmp_path: Path) -> None:
    for name, mode in (("grey", "L"), ("palette", "P"), ("alpha", "RGBA")):
        put(tmp_path / "own" / "map" / f"{name}.png", "map")
        (tmp_path / "own" / "sat").mkdir(exist_ok=True)
        image = Image.fromarray(picture(40, 50)).convert(mode)
        image.save(tmp_path / "own" / "sat" / f"{name}.png")
    assert set(fetched(tmp_path)) == {"grey", "palette", "alpha"}
    assert np.asarray(Image.open(tmp_path / "raw/train/sat/palette.png")).ndim == 2
