"""The table of handpick-filter: which tiles were kept."""

import csv
from pathlib import Path

from roads.errors import UserError


def kept_names(handpicked: Path) -> set[str]:
    """The tiles that handpick-filter kept.

    Raises:
        UserError: the table is missing or damaged, or no tile is left.
    """
    try:
        with handpicked.open(newline="", encoding="utf-8") as stream:
            names = {row["name"] for row in csv.DictReader(stream) if row["keep"] == "yes"}
    except FileNotFoundError:
        raise UserError(f"{handpicked} is missing. Run `dvc repro handpick-filter`.") from None
    except KeyError:
        raise UserError(f"{handpicked} is damaged. Run `dvc repro -f handpick-filter`.") from None
    if not names:
        raise UserError(f"{handpicked} keeps no tile. Raise handpick.max_blank.")
    return names
