"""Masks in the forms of COCO, all converted to compressed run lengths of the image's size.

faster-coco-eval encodes them, exactly as pycocotools does.
"""

from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sase_attn.detection.data.finite import is_finite_number

NEEDED = 'detection needs faster-coco-eval: pip install "sase-attn[detection]"'
FARTHEST = 10  # times the image's longer side; a corner beyond it is a mistake, and slow to draw
RunLengths = dict[str, Any]  # {"size": [height, width], "counts": bytes}, as in COCO


def mask_tools() -> ModuleType:
    """faster-coco-eval's module for masks. Raises ImportError if it is not installed."""
    try:
        from faster_coco_eval.core import mask
    except ImportError:
        raise ImportError(NEEDED) from None
    return mask


def encode_segmentation(segmentation: object, height: int, width: int) -> bytes:
    """The compressed run lengths of an object's mask.

    Args:
        segmentation: polygons ([[x, y, x, y, x, y, …], …], parts of one object), or run lengths, compressed or not.
        height, width: size of the image.

    Raises:
        ValueError: the value is neither, has another size, or covers no pixel of the image; the message says which.
        ImportError: the extra is missing.
    """
    tools = mask_tools()
    if isinstance(segmentation, dict):
        counts = _run_lengths(tools, segmentation, height, width)
    elif isinstance(segmentation, list) and segmentation:
        polygons = [_polygon(part, height, width) for part in segmentation]
        counts = tools.merge(tools.frPyObjects(polygons, height, width))["counts"]
    else:
        raise ValueError("no polygons and no run lengths" if segmentation else "no segmentation")
    if not mask_area(counts, height, width):
        raise ValueError("covers no pixel of its image")
    return counts


def decode_masks(counts: list[bytes], height: int, width: int) -> Tensor:
    """Masks as uint8 (N, height, width) of 0 and 1."""
    if not counts:
        return torch.zeros((0, height, width), dtype=torch.uint8)
    stacked = mask_tools().decode([{"size": [height, width], "counts": one} for one in counts])
    return torch.from_numpy(np.ascontiguousarray(stacked.transpose(2, 0, 1)))


def mask_box(counts: bytes, height: int, width: int) -> NDArray[np.float64]:
    """The box around a mask: x, y, width, height."""
    return np.asarray(mask_tools().toBbox({"size": [height, width], "counts": counts}), np.float64)


def mask_area(counts: bytes, height: int, width: int) -> float:
    """The number of pixels that a mask covers."""
    return float(mask_tools().area({"size": [height, width], "counts": counts}))


def polygons_box(segmentation: object) -> list[float] | None:
    """The box around polygons: x, y, width, height; None if the value is no list of polygons."""
    parts = segmentation if isinstance(segmentation, list) else []
    numbers = [part for part in parts if isinstance(part, list) and _are_numbers(part) and len(part) >= 4]
    if not numbers:
        return None
    x = [value for part in numbers for value in part[0::2]]
    y = [value for part in numbers for value in part[1::2]]
    return [min(x), min(y), max(x) - min(x), max(y) - min(y)]


def _run_lengths(tools: ModuleType, value: dict[Any, Any], height: int, width: int) -> bytes:
    size, counts = value.get("size"), value.get("counts")
    if size != [height, width]:
        raise ValueError(f"wanted run lengths of size [{height}, {width}], got {str(size)[:40]}")
    if isinstance(counts, str):
        counts = counts.encode("ascii", "replace")
        try:
            tools.decode({"size": [height, width], "counts": counts})
        except (ValueError, RuntimeError) as error:
            raise ValueError(f"broken run lengths: {error}") from None
        return counts
    if not isinstance(counts, list) or not _are_numbers(counts) or any(n < 0 or n != int(n) for n in counts):
        raise ValueError("run lengths are no list of counts and no text")
    if sum(counts) != height * width:
        raise ValueError(f"run lengths of {sum(counts)} pixels for an image of {height * width}")
    lengths = {"size": [height, width], "counts": [int(n) for n in counts]}
    return tools.frPyObjects(lengths, height, width)["counts"]


def _polygon(part: object, height: int, width: int) -> list[float]:
    if not isinstance(part, list) or not _are_numbers(part):
        raise ValueError("a polygon is no list of finite numbers")
    if len(part) < 6 or len(part) % 2:
        raise ValueError(f"wanted polygons of at least 3 corners x, y, got {len(part)} numbers")
    if max(map(abs, part)) > FARTHEST * max(height, width):
        raise ValueError(f"a polygon's corner is {max(map(abs, part)):g} pixels away")
    return [float(number) for number in part]


def _are_numbers(values: list[Any]) -> bool:
    return all(map(is_finite_number, values))
