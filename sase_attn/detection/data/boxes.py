"""The boxes of annotations: which of them can be used, and those inside their images."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sase_attn.detection.data.finite import is_finite_number

THINNEST = 0.05  # pixels of a side: in float32, far from the corner and scaled down, what is thinner has no area
TOLERANCE = 0.01  # pixels beyond the image that are rounding, and not told


class CheckedBoxes(NamedTuple):
    """Boxes inside their images, x, y, width, height; and what each is, as bool arrays (N,)."""

    xywh: NDArray[np.float64]
    no_area: NDArray[np.bool_]
    outside: NDArray[np.bool_]
    cropped: NDArray[np.bool_]


def as_box(value: object) -> tuple[float, float, float, float] | None:
    """Four finite numbers, or None."""
    if not isinstance(value, list) or len(value) != 4:
        return None
    if not all(map(is_finite_number, value)):
        return None
    x, y, width, height = (float(number) for number in value)
    return (x, y, width, height) if max(map(abs, (x, y, width, height))) < 1e9 else None


def check_boxes(xywh: NDArray[np.float64], sizes: NDArray[Any]) -> CheckedBoxes:
    """Crop boxes to their images, and tell which cannot be used.

    Args:
        xywh: float64 (N, 4).
        sizes: width and height of the image of each, (N, 2).
    """
    first, last = xywh[:, :2], xywh[:, :2] + xywh[:, 2:]
    no_area = np.any(xywh[:, 2:] < THINNEST, axis=1)
    inner_first, inner_last = np.clip(first, 0, sizes), np.clip(last, 0, sizes)
    inner = np.concatenate([inner_first, inner_last - inner_first], 1)
    outside = ~no_area & np.any(inner[:, 2:] < THINNEST, axis=1)
    beyond = np.maximum(inner_first - first, last - inner_last).max(1, initial=0)
    cropped = ~no_area & ~outside & (beyond > TOLERANCE)
    changed = (inner_first != first) | (inner_last != last)
    inside = ~np.any(changed, axis=1, keepdims=True)  # these keep their numbers to the bit
    return CheckedBoxes(np.where(inside, xywh, inner), no_area, outside, cropped)


def hardly_overlap(xywh: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which pairs of boxes have an intersection of less than half their union."""
    low = np.maximum(xywh[:, :2], others[:, :2])
    high = np.minimum(xywh[:, :2] + xywh[:, 2:], others[:, :2] + others[:, 2:])
    common = np.prod(np.clip(high - low, 0, None), axis=1)
    union = np.prod(xywh[:, 2:], axis=1) + np.prod(others[:, 2:], axis=1) - common
    return common < 0.5 * union
