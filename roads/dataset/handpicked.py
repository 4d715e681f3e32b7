"""The table that handpick-filter writes: which tiles were kept."""

from pathlib import Path

from roads.runtime.errors import UserError
from roads.runtime.files import read_csv, table_of

HANDPICKED_COLUMNS = ("name", "split", "blank", "keep", "why")


def read_verdicts(handpicked: Path) -> dict[str, tuple[bool, str]]:
    """Every tile's verdict: name → (kept, why).

    Raises:
        UserError: the table is missing or damaged.
    """
    with table_of("handpick-filter", handpicked):
        rows = read_csv(handpicked, HANDPICKED_COLUMNS)
        if not {row["keep"] for _, row in rows} <= {"yes", "no"}:
            raise ValueError
    return {row["name"]: (row["keep"] == "yes", row["why"]) for _, row in rows}


def kept_names(handpicked: Path) -> set[str]:
    """The tiles that handpick-filter kept.

    Raises:
        UserError: the table is missing or damaged, or no tile is left.
    """
    names = {name for name, (kept, _) in read_verdicts(handpicked).items() if kept}
    if not names:
        raise UserError(f"{handpicked} keeps no tile. Raise handpick.max_blank.")
    return names
