"""Progress bars."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


def progress(items: Iterable[Item], title: str, total: int | None = None) -> Iterator[Item]:
    """Show a progress bar on a terminal, and nothing elsewhere."""
    return iter(tqdm(items, desc=title, total=total, disable=None, dynamic_ncols=True))
