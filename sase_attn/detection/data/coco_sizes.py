"""COCO's three sizes of objects: `SIZES`, `size_of`."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

SIZES = ("small", "medium", "large")
_BOUNDS = (32.0**2, 96.0**2)  # pixels of area at which the second and the third begin


def size_of(areas: ArrayLike) -> NDArray[np.int64]:
    """The place in `SIZES` of each area."""
    return np.searchsorted(_BOUNDS, areas, side="right")
