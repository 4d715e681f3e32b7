import hashlib
import itertools
import math
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageSequence

from roads.dataset import stacks
from roads.dataset.packs import PackReader, pack_writer
from roads.dataset.stacks import read_stack, write_stack
from roads.runtime.errors import UserError
from tests.tiles import picture

CLASSIC, BIG = b"II*\0", b"II+\0"  # how a little-endian TIFF begins, and one past 4 GiB
FOUR_GIB = 2**32
SHAPE = (30, 27, 3)  # 27 bits are no whole bytes
COLOURS = [
    (np.arange(math.prod(SHAPE)).reshape(SHAPE) * step).astype(np.uint8) for step in (1, 3, 7)
]
GREYS = [page[..., 0] for page in COLOURS]
MASKS = [page > 100 for page in GREYS]


@pytest.mark.parametrize(
    ("pages", "mode", "digest"),
    [
        (COLOURS, "RGB", "1afb870f7051e775"),
        (GREYS, "L", "5cbb1a8ec1f5cb2e"),
        (MASKS, "1", "cdf2d416237f7d1b"),
    ],
)
def test_a_stack_is_read_back_here_and_by_pillow(
    tmp_path: Path, pages: list[NDArray[Any]], mode: str, digest: str
) -> None:
    write_stack(tmp_path / "a.tif", pages)
    found = list(read_stack(tmp_path / "a.tif"))
    assert [page.dtype for page in found] == [page.dtype for page in pages]
    assert np.array_equal(found, pages)
    with Image.open(tmp_path / "a.tif") as stack:
        assert (stack.mode, stack.info["compression"]) == (mode, "raw")
        assert np.array_equal([np.asarray(page) for page in ImageSequence.Iterator(stack)], pages)
    # No date, no version: the bytes are the same on every machine.
    assert hashlib.sha256((tmp_path / "a.tif").read_bytes()).hexdigest()[:16] == digest


@pytest.mark.parametrize(("limit", "magic"), [(stacks.BIG_TIFF_BYTES, CLASSIC), (1000, BIG)])
@pytest.mark.parametrize("pages", [COLOURS, MASKS])
def test_a_stack_past_the_limit_is_a_big_tiff(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    pages: list[NDArray[Any]],
    limit: int,
    magic: bytes,
) -> None:
    monkeypatch.setattr(stacks, "BIG_TIFF_BYTES", limit)
    write_stack(tmp_path / "a.tif", pages)
    assert (tmp_path / "a.tif").read_bytes()[:4] == magic
    assert np.array_equal(list(read_stack(tmp_path / "a.tif")), pages)


@pytest.mark.parametrize("pages", [COLOURS, MASKS])
@pytest.mark.parametrize("left", [0.0, 0.02, 0.4, 0.7, 0.99])
def test_a_stack_cut_short_is_named(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], pages: list[NDArray[Any]], left: float
) -> None:
    write_stack(tmp_path / "a.tif", pages)
    content = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(content[: int(left * len(content))])
    with pytest.raises(UserError, match=r"a\.tif is broken: .*\. Run `dvc repro -f crop binarize`"):
        list(read_stack(tmp_path / "a.tif"))
    assert capfd.readouterr() == ("", "")  # tifffile logs what it finds wrong


def test_a_missing_stack_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.tif is missing\. Run"):
        list(read_stack(tmp_path / "a.tif"))


def pillow(mode: str, **options: Any) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        Image.fromarray(COLOURS[0]).convert(mode).save(path, "TIFF", **options)

    return write


def by_tifffile(pixels: NDArray[Any], **options: Any) -> Callable[[Path], Any]:
    return lambda path: tifffile.imwrite(path, pixels, **{"photometric": "minisblack"} | options)


def claiming(pages: list[NDArray[Any]], **values: int) -> Callable[[Path], None]:
    """Write a stack whose first page has other values of its tags."""

    def write(path: Path) -> None:
        write_stack(path, pages)
        with tifffile.TiffFile(path, mode="r+") as stack:
            for name, value in values.items():
                stack.pages.first.tags[name].overwrite(value)

    return write


def with_tag(code: int, value: int) -> Callable[[Path], None]:
    """Write a stack with a further tag in place of its unit of resolution."""

    def write(path: Path) -> None:
        write_stack(path, GREYS)
        unit, other = struct.pack("<2H2I", 296, 3, 1, 1), struct.pack("<2H2I", code, 3, 1, value)
        path.write_bytes(path.read_bytes().replace(unit, other))

    return write


HIGH, WIDE = 30_000, 40_000
HUGE = {"ImageLength": HIGH, "ImageWidth": WIDE, "RowsPerStrip": HIGH}
FOREIGN: dict[str, Callable[[Path], Any]] = {
    "Group 4": pillow("1", compression="group4"),
    "LZW": pillow("RGB", compression="tiff_lzw"),
    "deflate": claiming(MASKS, Compression=8),
    "palette": pillow("P"),
    "alpha": pillow("RGBA"),
    "16 bits": by_tifffile(GREYS[0].astype(np.uint16)),
    "signed": by_tifffile(GREYS[0].astype(np.int8)),
    "white is 0": by_tifffile(GREYS[0], photometric="miniswhite"),
    "differences": with_tag(317, 2),
    "low bits first": with_tag(266, 2),
    "tile": by_tifffile(GREYS[0][:16, :16], tile=(16, 16)),
    "strips": by_tifffile(GREYS[0], rowsperstrip=10),
    "planes": claiming(COLOURS, PlanarConfiguration=2, RowsPerStrip=0),
    "volume": with_tag(32997, 2),
    "no pixels": claiming(GREYS, ImageWidth=0, StripByteCounts=0),
    "huge": claiming(COLOURS, **HUGE, StripByteCounts=HIGH * WIDE * 3),
    "huge, one bit": claiming(MASKS, **HUGE, StripByteCounts=HIGH * WIDE // 8),
    "huge, few bytes": claiming(MASKS, **HUGE),
    "text": lambda path: path.write_text("no picture"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_file_that_is_not_a_stack_is_refused(tmp_path: Path, name: str) -> None:
    FOREIGN[name](tmp_path / "a.tif")
    with pytest.raises(UserError, match=r"a\.tif is broken"):
        list(read_stack(tmp_path / "a.tif"))


@pytest.mark.parametrize("name", ["LZW", "deflate"])
def test_a_compressed_page_is_refused_before_it_is_decoded(tmp_path: Path, name: str) -> None:
    FOREIGN[name](tmp_path / "a.tif")
    with pytest.raises(UserError, match="page 0 is not uncompressed"):
        list(read_stack(tmp_path / "a.tif"))


@pytest.mark.parametrize(("page", "goes_on_at"), [(2, 0), (2, 2), (199, 150)])
def test_an_endless_chain_of_pages_is_refused(tmp_path: Path, page: int, goes_on_at: int) -> None:
    write_stack(tmp_path / "a.tif", COLOURS + [COLOURS[0]] * (page - 2))
    with tifffile.TiffFile(tmp_path / "a.tif") as stack:
        starts = [one.offset for one in stack.pages]
        entries = len(stack.pages.first.tags)
    content = bytearray((tmp_path / "a.tif").read_bytes())
    struct.pack_into("<I", content, starts[page] + 2 + 12 * entries, starts[goes_on_at])
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.tif is broken"):
        list(itertools.islice(read_stack(tmp_path / "a.tif"), 2 * len(starts)))


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
