"""Check the boxes of annotations, and crop them to their images."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sase_attn.detection.data.finite import is_finite_number

THINNEST = 0.05  # pixels of a side: in float32, far from the corner and scaled down, a thinner box has no area
TOLERANCE = 0.01  # pixels beyond the image that count as rounding, and are not reported


class CheckedBoxes(NamedTuple):
    """Boxes cropped to their images (x, y, width, height), and what was found about each, as bool arrays (N,)."""

    xywh: NDArray[np.float64]
    no_area: NDArray[np.bool_]
    outside: NDArray[np.bool_]
    cropped: NDArray[np.bool_]


def as_box(value: object) -> tuple[float, float, float, float] | None:
    """A value as a tuple of four finite numbers; None if it is not that."""
    if not isinstance(value, list) or len(value) != 4:
        return None
    if not all(map(is_finite_number, value)):
        return None
    x, y, width, height = (float(number) for number in value)
    return (x, y, width, height) if max(map(abs, (x, y, width, height))) < 1e9 else None


def check_boxes(xywh: NDArray[np.float64], sizes: NDArray[Any]) -> CheckedBoxes:
    """Crop boxes to their images, and mark those that cannot be used.

    Args:
        xywh: float64 (N, 4).
        sizes: width and height of each box's image, (N, 2).
    """
    first, last = xywh[:, :2], xywh[:, :2] + xywh[:, 2:]
    no_area = np.any(xywh[:, 2:] < THINNEST, axis=1)
    inner_first, inner_last = np.clip(first, 0, sizes), np.clip(last, 0, sizes)
    inner = np.concatenate([inner_first, inner_last - inner_first], 1)
    outside = ~no_area & np.any(inner[:, 2:] < THINNEST, axis=1)
    beyond = np.maximum(inner_first - first, last - inner_last).max(1, initial=0)
    cropped = ~no_area & ~outside & (beyond > TOLERANCE)
    changed = (inner_first != first) | (inner_last != last)
    inside = ~np.any(changed, axis=1, keepdims=True)  # these boxes are returned exactly as they are
    return CheckedBoxes(np.where(inside, xywh, inner), no_area, outside, cropped)


def hardly_overlap(xywh: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.bool_]:
    """For each pair of boxes, whether the intersection is less than half of the union."""
    low = np.maximum(xywh[:, :2], others[:, :2])
    high = np.minimum(xywh[:, :2] + xywh[:, 2:], others[:, :2] + others[:, 2:])
    common = np.prod(np.clip(high - low, 0, None), axis=1)
    union = np.prod(xywh[:, 2:], axis=1) + np.prod(others[:, 2:], axis=1) - common
    return common < 0.5 * union
