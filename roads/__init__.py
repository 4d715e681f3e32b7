"""Roads in aerial images: the library behind the stages and the command line.

>>> import roads
>>> net = roads.load("massachusetts-gpu")  # doctest: +SKIP
>>> probability = net.predict(picture)  # doctest: +SKIP
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

# Files are written under another name and renamed, so HDF5 needs no locks, which some NFS lack.
# This must be set before h5py is imported.
os.environ.setdefault("HDF5_USE_FILE_LOCKING", "FALSE")

if TYPE_CHECKING:
    from roads.mapping.net import Net


def load(name: str | Path | None = None, *, tta: bool = False) -> "Net":
    """Load a trained net for predicting arrays.

    Args:
        name: of a released net (docs/mapping.md says which one suits what), a weights file or its
            folder; None is the pipeline's in the current folder. Windows are as in params.yaml.
        tta: average the eight flips and turns; slightly better, 8 times slower.

    Returns:
        A net whose `predict` takes (height, width, 3) uint8 at 1 m per pixel and gives
        (height, width) float32, the probability of road; its `threshold` is the least
        probability that counts as road.

    Raises:
        UserError: there is no such net, or its files are broken.
        TypeError: the name is not a str or a Path.
    """
    from roads.mapping.net import load_net  # Keras takes seconds to import

    return load_net(name, tta)
