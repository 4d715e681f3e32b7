from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from PIL import Image
from PIL.TiffImagePlugin import STRIPBYTECOUNTS, AppendingTiffWriter, TiffImageFile

from roads.dataset import stacks
from roads.dataset.packs import PackReader, pack_writer
from roads.dataset.stacks import read_stack, write_stack
from roads.runtime.errors import UserError
from tests.tiles import picture

CLASSIC, BIG = b"II*\0", b"II+\0"  # how a little-endian TIFF begins, and one past 4 GiB
FOUR_GIB = 2**32


@pytest.mark.parametrize(("limit", "magic"), [(stacks.BIG_TIFF_BYTES, CLASSIC), (1000, BIG)])
def test_a_stack_past_the_limit_is_a_big_tiff(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int, magic: bytes
) -> None:
    monkeypatch.setattr(stacks, "BIG_TIFF_BYTES", limit)
    pages = [picture(32, 32, seed) for seed in range(5)]
    write_stack(tmp_path / "a.tif", pages)
    assert (tmp_path / "a.tif").read_bytes()[:4] == magic
    assert np.array_equal(list(read_stack(tmp_path / "a.tif")), pages)


@pytest.mark.parametrize("compression", [None, "group4"])
def test_a_page_more_costs_the_same_however_many_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compression: str | None
) -> None:
    colours = [picture(32, 32, seed) for seed in range(40)]
    pages = [page[..., 0] > 100 if compression else page for page in colours]
    first, *others = map(Image.fromarray, pages)
    first.save(
        tmp_path / "pillow.tif", save_all=True, append_images=others, compression=compression
    )
    read = 0

    def count(writer: AppendingTiffWriter, size: int) -> int:
        nonlocal read
        read += 1
        return original(writer, size)

    original = AppendingTiffWriter._read
    monkeypatch.setattr(AppendingTiffWriter, "_read", count)
    costs = []
    for number in (20, 40):
        read = 0
        write_stack(tmp_path / f"{number}.tif", pages[:number])
        costs.append(read)
    assert costs[1] < 2.1 * costs[0]
    assert (tmp_path / "40.tif").read_bytes() == (tmp_path / "pillow.tif").read_bytes()


@pytest.mark.parametrize("side", [16, 1000])  # a page of one strip, and one of several
def test_a_far_page_is_read_without_walking_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, side: int
) -> None:
    pages = [picture(side, side, seed)[..., 0] > 100 for seed in range(4)]
    write_stack(tmp_path / "a.tif", pages)
    monkeypatch.setattr(stacks, "FAR", 2)
    monkeypatch.setattr(stacks, "_alone", alone := mock.Mock(wraps=stacks._alone))
    found = list(read_stack(tmp_path / "a.tif"))
    assert all(page.dtype == np.bool_ for page in found)
    assert np.array_equal(found, pages)
    assert alone.call_count == 2


def test_a_far_page_longer_than_its_file_is_refused(tmp_path: Path) -> None:
    write_stack(tmp_path / "a.tif", [picture(16, 16)[..., 0] > 100])
    with TiffImageFile(tmp_path / "a.tif") as stack:
        (size,) = stack.tag_v2[STRIPBYTECOUNTS]
        stack.tag_v2[STRIPBYTECOUNTS] = (size, 2**31)
        with pytest.raises(ValueError, match="longer than the file"):
            stacks._alone(stack)


def test_a_stack_cut_short_is_named(tmp_path: Path) -> None:
    write_stack(tmp_path / "a.tif", [picture(32, 32)] * 3)
    content = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(content[:2000])
    with pytest.raises(UserError, match=r"a\.tif is broken"):
        list(read_stack(tmp_path / "a.tif"))


@pytest.mark.soak
def test_a_stack_of_more_than_four_gib_keeps_its_pages(tmp_path: Path) -> None:
    pages = [picture(4096, 4096, seed) for seed in range(2)]
    count = FOUR_GIB // pages[0].nbytes + 2
    write_stack(tmp_path / "a.tif", [pages[number % 2] for number in range(count)])
    assert (tmp_path / "a.tif").stat().st_size > FOUR_GIB
    found = 0
    for number, page in enumerate(read_stack(tmp_path / "a.tif")):
        assert np.array_equal(page, pages[number % 2])
        found += 1
    assert found == count


@pytest.mark.soak
def test_packs_of_more_than_four_gib_keep_their_rows(tmp_path: Path) -> None:
    size, block = 256, 64
    images = np.stack([picture(size, size, seed) for seed in range(block)])
    masks = images[..., 0] % 2
    blocks = FOUR_GIB // images.nbytes + 2
    with pack_writer(tmp_path, {"train": blocks * block, "valid": 1, "test": 1}, size) as writer:
        for number in range(blocks):
            writer.append("train", np.roll(images, number, axis=0), np.roll(masks, number, axis=0))
        for split in ("valid", "test"):
            writer.append(split, images[:1], masks[:1])
    assert (tmp_path / "images.h5").stat().st_size > FOUR_GIB
    with PackReader(tmp_path) as pack:
        last = pack.rows("train") - 1
        found, road = pack.read("train", [last, 0])
    expected = [(block - 1 - (blocks - 1)) % block, 0]
    assert np.array_equal(found, images[expected])
    assert np.array_equal(road[..., 0], masks[expected])
