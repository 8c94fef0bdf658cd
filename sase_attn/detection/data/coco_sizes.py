"""COCO's three sizes of objects: `SIZES`, `size_of`."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

SIZES = ("small", "medium", "large")
_BOUNDS = (32.0**2, 96.0**2)  # areas in pixels at which medium and large objects begin


def size_of(areas: ArrayLike) -> NDArray[np.int64]:
    """The index in `SIZES` of each area."""
    return np.searchsorted(_BOUNDS, areas, side="right")
