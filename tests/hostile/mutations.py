"""Files damaged at random: the same damage for the same draw."""

import random
import re
from collections.abc import Callable

HEADER = 512  # bytes; half of the damage is done there, where formats say what follows
NUMBERS = (0, 1, 2, 3, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF,
           100_000, 2**31 - 2, 2**63 - 1, 2**64 - 1)  # fmt: skip
WORDS = (
    "", "-1", "0", "1e999", "nan", ".inf", "9" * 5000, "-9999999999999999999999", "1_0", "0x7f",
    "4:16", "2026-13-45", "true", "null", "~", "../../etc/passwd", "/etc/passwd", "..", "a\0b",
    "\ufeff", '"', '""', "'", "\r", "\n", "\t", ",", ",,,,", ";", "[", "[[[[[[[[", "{a: ", "*a",
    "&a ", "<<: *a", "? ", "!!int ''", "!!timestamp x", "!!python/object/apply:os.system [id]",
    "x" * 200_000, "[" * 3000, "é", "\u2028", "\x1b[2J", "NaN", "Infinity", "1e-05",
)  # fmt: skip


def mutate(whole: bytes, draw: random.Random, text: bool) -> bytes:
    """Damage a file in one to four places.

    Args:
        whole: the file.
        draw: decides what is done, and where.
        text: half of the damage is to words and lines.
    """
    data = bytearray(whole)
    for _ in range(draw.randint(1, 4)):
        some = TEXT_DAMAGE if text and draw.random() < 0.5 else DAMAGE
        draw.choice(some)(data, draw)
    return bytes(data)


def _place(data: bytearray, draw: random.Random) -> int:
    end = len(data) if draw.random() < 0.5 else min(len(data), HEADER)
    return draw.randrange(end + 1)


def _flip(data: bytearray, draw: random.Random) -> None:
    if data:
        place = min(_place(data, draw), len(data) - 1)
        data[place] ^= 1 << draw.randrange(8)


def _byte(data: bytearray, draw: random.Random) -> None:
    if data:
        data[min(_place(data, draw), len(data) - 1)] = draw.choice((0, 1, 0x7F, 0x80, 0xFF))


def _number(data: bytearray, draw: random.Random) -> None:
    size = draw.choice((2, 4, 8))
    order = draw.choice(("little", "big"))
    number = draw.choice(NUMBERS) % 256**size
    place = _place(data, draw)
    data[place : place + size] = number.to_bytes(size, order)


def _truncate(data: bytearray, draw: random.Random) -> None:
    del data[_place(data, draw) :]


def _delete(data: bytearray, draw: random.Random) -> None:
    place = _place(data, draw)
    del data[place : place + draw.randint(1, 64)]


def _repeat(data: bytearray, draw: random.Random) -> None:
    place = _place(data, draw)
    data[place:place] = data[place : place + draw.randint(1, 256)] * draw.choice((1, 2, 100))


def _insert(data: bytearray, draw: random.Random) -> None:
    place = _place(data, draw)
    data[place:place] = draw.randbytes(draw.randint(1, 32))


def _fill(data: bytearray, draw: random.Random) -> None:
    place = _place(data, draw)
    stop = min(len(data), place + draw.randint(1, 64))
    data[place:stop] = bytes([draw.choice((0, 0xFF, 0x20))]) * (stop - place)


def _move(data: bytearray, draw: random.Random) -> None:
    start, place, size = _place(data, draw), _place(data, draw), draw.randint(1, 64)
    piece = data[start : start + size]
    data[place : place + len(piece)] = piece


def _word(data: bytearray, draw: random.Random) -> None:
    words = list(re.finditer(rb"[\w.+-]+", data))
    if words:
        start, stop = draw.choice(words).span()
        data[start:stop] = draw.choice(WORDS).encode()


def _separator(data: bytearray, draw: random.Random) -> None:
    separators = [place for place, byte in enumerate(data) if byte in b",:\n{}[] "]
    if separators:
        place = draw.choice(separators)
        data[place : place + 1] = draw.choice(WORDS).encode()


def _lines(data: bytearray, draw: random.Random) -> None:
    lines = data.splitlines(keepends=True)
    if lines:
        start = draw.randrange(len(lines))
        piece = lines[start : start + draw.randint(1, 3)]
        what = draw.randrange(3)
        if what == 0:
            del lines[start : start + len(piece)]
        elif what == 1:
            lines[start:start] = piece
        else:
            draw.shuffle(lines)
        data[:] = b"".join(lines)


DAMAGE: list[Callable[[bytearray, random.Random], None]] = [
    _flip, _flip, _byte, _byte, _number, _number, _truncate, _delete, _repeat, _insert, _fill,
    _move,
]  # fmt: skip
TEXT_DAMAGE: list[Callable[[bytearray, random.Random], None]] = [_word, _word, _separator, _lines]
