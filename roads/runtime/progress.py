"""Progress bars."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


def progress(items: Iterable[Item], title: str, total: int | None = None) -> Iterator[Item]:
    """Yield the items; show a progress bar if stderr is a terminal."""
    return iter(tqdm(items, desc=title, total=total, disable=None, dynamic_ncols=True))
