"""Array types that many modules share."""

import numpy as np
from numpy.typing import NDArray

Image8 = NDArray[np.uint8]
Bool = NDArray[np.bool_]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
