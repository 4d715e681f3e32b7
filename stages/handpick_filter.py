"""handpick-filter: drop the tiles that miss a large part of their imagery.

The result is `handpicked.csv`, which lists every tile with its blank fraction, whether it was kept,
and why; and a contact sheet to check by eye: some of the kept tiles, then those dropped or nearly
dropped, with the maps' roads drawn over the images. It reveals shifted, inverted and empty maps.
"""

import functools
import sys
from pathlib import Path

from roads.dataset.contact_sheet import save_contact_sheet
from roads.dataset.handpicked import HANDPICKED_COLUMNS
from roads.dataset.tiles import Tile, check_known, read_by_hand, read_pair, read_tiles
from roads.imagery.blank import blank_fraction
from roads.parallel.pool import in_order
from roads.params.handpick import HandpickParams
from roads.params.whole import read_params
from roads.runtime.arrays import Image8
from roads.runtime.errors import UserError, excerpt
from roads.runtime.files import write_csv
from roads.runtime.stage import stage_paths, stage_status

PICK_COLUMNS = ("name", "decision", "reason")
BORDERLINE = 0.1  # a blank fraction this close to the limit is worth checking by eye
SAMPLED = 24  # tiles, evenly spaced in the table, that are shown if they are kept
THUMBNAIL = 250  # pixels
ROAD_FROM = 128  # map pixels from this value on are drawn as road
ROAD_COLOUR = (255, 0, 0)


def handpick_filter(
    raw: Path, picks_file: Path, handpicked: Path, sheet: Path, params: HandpickParams
) -> None:
    """Keep or drop every tile of `raw` by its blank fraction; decisions by hand take precedence.

    Args:
        raw: the downloaded tiles.
        picks_file: CSV of decisions by hand: name, `keep` or `drop`, reason.
        handpicked: the table to write.
        sheet: the picture to write.
        params: the limit of the blank fraction.

    Raises:
        UserError: a picture is broken, or a decision names a tile that is not in `raw`.
    """
    tiles = read_tiles(raw)
    picks = read_picks(picks_file)
    check_known(picks_file, picks, {tile.name for tile in tiles}, raw)
    rows, doubtful, sampled = [], [], []
    step = -(-len(tiles) // SAMPLED)
    jobs = [(tile, number % step == 0 or tile.name in picks) for number, tile in enumerate(tiles)]
    looks = in_order(functools.partial(_look, raw.absolute()), jobs, "handpick")
    for (tile, wanted), (blank, thumbnail) in zip(jobs, looks, strict=True):
        keep, why = _judge(blank, picks.get(tile.name), params.max_blank)
        rows.append((tile.name, tile.split, f"{blank:.4f}", "yes" if keep else "no", why))
        if thumbnail is None:
            continue
        shown = f"{tile.name}\n{blank:.1%} blank, {'kept' if keep else 'dropped'}", thumbnail
        near = blank > 0 and abs(blank - params.max_blank) <= BORDERLINE
        if not keep or tile.name in picks or near:
            doubtful.append(shown)
        elif wanted:
            sampled.append(shown)
    write_csv(handpicked, HANDPICKED_COLUMNS, rows)
    title = "Some tiles that were kept; then those dropped, near the limit or picked by hand"
    save_contact_sheet(sheet, sampled + doubtful, f"{title}. Roads of the maps are red")
    kept = sum(row[3] == "yes" for row in rows)
    print(f"handpick-filter: {kept} of {len(rows)} tiles kept", file=sys.stderr)


def _look(raw: Path, job: tuple[Tile, bool]) -> tuple[float, Image8 | None]:
    """The blank fraction of a tile, and a thumbnail if some of it is blank or one is wanted."""
    tile, wanted = job
    image, map_ = read_pair(raw, tile)
    blank = blank_fraction(image)
    if blank == 0 and not wanted:
        return blank, None
    step = max(1, max(map_.shape) // THUMBNAIL)
    thumbnail = image[::step, ::step].copy()
    thumbnail[map_[::step, ::step] >= ROAD_FROM] = ROAD_COLOUR
    return blank, thumbnail


def _judge(blank: float, pick: tuple[bool, str] | None, max_blank: float) -> tuple[bool, str]:
    if pick is not None:
        keep, reason = pick
        return keep, f"by hand: {reason}" if reason else "by hand"
    if blank > max_blank:
        return False, "blank"  # without the limit: a new limit with the same outcome reruns nothing
    return True, ""


def read_picks(path: Path) -> dict[str, tuple[bool, str]]:
    """Read the decisions by hand: name → (keep, reason).

    Raises:
        UserError: the file is missing, or a line of it is not a decision.
    """
    picks: dict[str, tuple[bool, str]] = {}
    for line, row in read_by_hand(path, PICK_COLUMNS):
        name, decision = row["name"], row["decision"]
        if decision not in ("keep", "drop"):
            raise UserError(
                f"{path}, line {line}: the decision on {name} is {excerpt(decision)}, not keep or "
                "drop"
            )
        if name in picks:
            raise UserError(f"{path}, line {line}: duplicate name {name}")
        picks[name] = (decision == "keep", row["reason"])
    return picks


def main() -> None:
    paths = stage_paths(__doc__, "raw", "picks", "out", "sheet")
    params = read_params()
    handpick_filter(paths.raw, paths.picks, paths.out, paths.sheet, params.handpick)


if __name__ == "__main__":
    sys.exit(stage_status(main))
