import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import stages.handpick_filter
from roads.dataset.contact_sheet import save_contact_sheet
from roads.dataset.tiles import write_tiles
from roads.params.handpick import HandpickParams
from roads.runtime.arrays import Image8
from roads.runtime.errors import UserError
from stages.handpick_filter import handpick_filter, read_picks
from tests.tiles import picture, road_map, save_tile


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Three tiles: whole, 20 % blank, 40 % blank."""
    tiles = []
    for name, blank in (("whole", 0), ("some", 20), ("much", 40)):
        image = picture(100, 100)
        image[:blank] = 255
        tiles.append(save_tile(tmp_path / "raw", name, "train", image, road_map(100, 100)))
    write_tiles(tmp_path / "raw", tiles)
    return tmp_path / "raw"


def judge(raw: Path, picks: str = "", max_blank: float = 0.25) -> dict[str, tuple[str, str]]:
    folder = raw.parent
    (folder / "picks.csv").write_text("name,decision,reason\n" + picks, encoding="utf-8")
    handpick_filter(
        raw,
        folder / "picks.csv",
        folder / "handpicked.csv",
        folder / "sheet.png",
        HandpickParams(max_blank=max_blank),
    )
    with (folder / "handpicked.csv").open(encoding="utf-8") as stream:
        return {row["name"]: (row["keep"], row["why"]) for row in csv.DictReader(stream)}


def test_a_tile_with_much_missing_is_dropped(raw: Path) -> None:
    verdicts = judge(raw)
    assert verdicts == {
        "whole": ("yes", ""),
        "some": ("yes", ""),
        "much": ("no", "blank"),
    }
    table = (raw.parent / "handpicked.csv").read_bytes()
    assert judge(raw, max_blank=0.3) == verdicts
    assert (raw.parent / "handpicked.csv").read_bytes() == table  # so no stage reruns
    assert judge(raw, max_blank=0.1)["some"] == ("no", "blank")


def test_a_decision_of_the_user_takes_precedence(raw: Path) -> None:
    verdicts = judge(raw, "much,keep,rare coast\nwhole,drop,clouds\n")
    assert verdicts["much"] == ("yes", "by hand: rare coast")
    assert verdicts["whole"] == ("no", "by hand: clouds")


def test_the_contact_sheet_shows_dropped_and_borderline_tiles(
    raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And some that were kept; all with their roads in red, a name with mathtext in it as it is."""
    for kind in ("sat", "map"):
        for path in (raw / "train" / kind).glob("much.*"):
            path.rename(path.with_stem("x$\\frac$"))
    tiles = raw / "tiles.csv"
    tiles.write_text(tiles.read_text().replace("much", "x$\\frac$"))
    shown: list[tuple[str, Image8]] = []

    def save(path: Path, pictures: list[tuple[str, Image8]], title: str) -> None:
        shown.extend(pictures)
        save_contact_sheet(path, pictures, title)

    monkeypatch.setattr(stages.handpick_filter, "save_contact_sheet", save)
    assert judge(raw)["x$\\frac$"][0] == "no"
    assert [caption for caption, _ in shown] == [
        "whole\n0.0% blank, kept", "x$\\frac$\n40.0% blank, dropped", "some\n20.0% blank, kept",
    ]  # fmt: skip
    for _, thumbnail in shown:
        np.testing.assert_array_equal(
            (thumbnail == (255, 0, 0)).all(axis=2), road_map(100, 100) == 255
        )


@pytest.mark.parametrize(("pictures", "width"), [(0, 600), (1, 600), (4, 800), (7, 1200)])
def test_a_contact_sheet_is_as_wide_as_its_pictures_and_its_title(
    tmp_path: Path, pictures: int, width: int
) -> None:
    title = "Some tiles that were kept; then those dropped, near the limit or picked by hand"
    save_contact_sheet(tmp_path / "sheet.png", [("a tile", picture(9, 9))] * pictures, title)
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width == width
        head = np.asarray(sheet.convert("L"))[:40]
    assert head.min() < 100
    assert (head[:, [0, 1, -2, -1]] > 250).all()


@pytest.mark.parametrize(
    ("picks", "told"),
    [
        ("whoel,drop,\n", "names tiles that are not in .*: whoel"),
        ("whole,maybe,\n", "line 2: the decision on whole is 'maybe'"),
        ("whole,keep,\nwhole,drop,\n", "line 3: duplicate name whole"),
    ],
)
def test_a_wrong_decision_is_named(raw: Path, picks: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        judge(raw, picks)
    assert not (raw.parent / "handpicked.csv").exists()


@pytest.mark.parametrize("how", ["nodata", "alpha", "collar"])
def test_imagery_masked_out_by_the_file_is_blank(raw: Path, how: str) -> None:
    image, path = picture(100, 100), raw / "train/sat/whole.tiff"
    image[:67] = 0 if how != "alpha" else 90
    if how == "alpha":
        alpha = np.full((100, 100), 255, np.uint8)
        alpha[:67] = 0
        Image.fromarray(np.dstack([image, alpha])).save(path)
    else:
        Image.fromarray(image).save(path, tiffinfo={42113: "0"} if how == "nodata" else {})
    assert judge(raw)["whole"] == ("no", "blank")


def test_picks_may_come_from_excel(tmp_path: Path) -> None:
    picks = tmp_path / "picks.csv"
    picks.write_text("name,decision,reason\r\na,drop,blurred\r\n", encoding="utf-8-sig", newline="")
    assert read_picks(picks) == {"a": (False, "blurred")}
