"""download: bring tiles into `data/raw`, from one of three sources.

The result is `data/raw/{train,valid,test}/{sat,map}/NAME.*` and `tiles.csv`, which lists every tile
with the sizes and SHA-256 of its two files.
"""

import sys
from collections import Counter
from pathlib import Path

from roads.dataset.tiles import write_tiles
from roads.params.download import DownloadParams
from roads.params.sample import SampleParams
from roads.params.whole import read_params
from roads.runtime.files import replacing_folder
from roads.runtime.names import SPLITS
from roads.runtime.stage import stage_paths, stage_status
from roads.runtime.state import state_folder
from roads.sources import folder, massachusetts, sample


def download(raw: Path, names: Path, params: DownloadParams, generated: SampleParams) -> None:
    """Fill the folder `raw` with tiles.

    Args:
        raw: the folder to make.
        names: CSV of the official tiles' names by split, for the source `massachusetts`.
        params: which source, and its parameters.
        generated: parameters of the source `sample`.

    Raises:
        UserError: the source cannot provide the tiles.
    """
    with replacing_folder(raw) as partial:
        if params.source == "sample":
            tiles = sample.fetch(partial, **generated.model_dump())
        elif params.source == "folder":
            tiles = folder.fetch(partial, folder=params.folder)
        else:
            tiles = massachusetts.fetch(partial, names, params, state_folder("downloads"))
        write_tiles(partial, tiles)
    counts = Counter(tile.split for tile in tiles)
    told = ", ".join(f"{counts[split]} {split}" for split in SPLITS)
    if params.source == "folder" and counts.keys() == {folder.UNDIVIDED}:
        told = "not split yet; split.by=tile splits them"
    print(f"download: {len(tiles)} tiles ({told})", file=sys.stderr)


def main() -> None:
    paths = stage_paths(__doc__, "names", "out")
    params = read_params()
    download(paths.out, paths.names, params.download, params.sample)


if __name__ == "__main__":
    sys.exit(stage_status(main))
