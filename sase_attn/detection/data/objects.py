"""`Objects`: the objects of all images in a few arrays that worker processes share; `ImageObjects`: those of one."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sase_attn.detection.data.masks import RunLengths, decode_masks


@dataclass(frozen=True)
class ImageObjects:
    """The N objects of one image, crowds included, in the order of the annotation file.

    Args:
        xywh: boxes in COCO's form, float64 (N, 4), inside the image.
        labels: int64 (N,) from 1; `category_ids[label - 1]` of the set is the id in the file.
        crowds: whether each object is a crowd, bool (N,).
        areas: areas in pixels from the file, by which COCO divides objects into small, medium and large; float64 (N,).
        counts: compressed run lengths of each mask; None if masks were not read.
        height, width: size of the image.
    """

    xywh: NDArray[np.float64]
    labels: NDArray[np.int64]
    crowds: NDArray[np.bool_]
    areas: NDArray[np.float64]
    counts: list[bytes] | None
    height: int
    width: int

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def boxes(self) -> Tensor:
        """The boxes in torchvision's form: x1, y1, x2, y2, float32 (N, 4)."""
        corners = np.concatenate([self.xywh[:, :2], self.xywh[:, :2] + self.xywh[:, 2:]], 1)
        return torch.from_numpy(corners.astype(np.float32))

    @property
    def run_lengths(self) -> list[RunLengths]:
        """The masks in COCO's form of run lengths. Raises ValueError if masks were not read."""
        return [{"size": [self.height, self.width], "counts": one} for one in self._read_counts()]

    @property
    def masks(self) -> Tensor:
        """The masks as uint8 (N, height, width). Raises ValueError if masks were not read."""
        return decode_masks(self._read_counts(), self.height, self.width)

    def without_crowds(self) -> "ImageObjects":
        """The objects that are no crowds, which a detector learns from."""
        kept = ~self.crowds
        counts = None if self.counts is None else [one for one, keep in zip(self.counts, kept, strict=True) if keep]
        return ImageObjects(
            self.xywh[kept], self.labels[kept], self.crowds[kept], self.areas[kept], counts, self.height, self.width
        )

    def _read_counts(self) -> list[bytes]:
        if self.counts is None:
            raise ValueError("masks were not read: open the data with masks")
        return self.counts


class Objects:
    """The objects of a set, as a sequence with one `ImageObjects` per image.

    Args:
        sizes: width and height of each image, int64 (M, 2).
        places: index of each object's image, int64 (N,), in ascending order.
        xywh, labels, crowds, areas, counts: arrays with a value for each object, see `ImageObjects`.
    """

    def __init__(
        self,
        sizes: NDArray[np.int64],
        places: NDArray[np.int64],
        xywh: NDArray[np.float64],
        labels: NDArray[np.int64],
        crowds: NDArray[np.bool_],
        areas: NDArray[np.float64],
        counts: Sequence[bytes] | None,
    ) -> None:
        self._sizes, self.xywh, self.labels, self.crowds, self.areas = sizes, xywh, labels, crowds, areas
        self._starts = np.searchsorted(places, np.arange(len(sizes) + 1))
        self._ends: NDArray[np.int64] | None = None
        if counts is not None:
            self._ends = np.cumsum([0, *map(len, counts)])
            self._bytes = np.frombuffer(b"".join(counts), np.uint8)

    def __len__(self) -> int:
        return len(self._sizes)

    @property
    def count(self) -> int:
        """The number of objects in all images."""
        return len(self.labels)

    def __getitem__(self, place: int) -> ImageObjects:
        if not -len(self) <= place < len(self):
            raise IndexError(f"image: wanted one of {len(self)}, got {place}")
        place %= len(self)
        own = slice(int(self._starts[place]), int(self._starts[place + 1]))
        width, height = map(int, self._sizes[place])
        return ImageObjects(
            self.xywh[own], self.labels[own], self.crowds[own], self.areas[own], self._counts(own), height, width
        )

    def __iter__(self) -> Iterator[ImageObjects]:
        return (self[place] for place in range(len(self)))

    def arrays(self) -> list[NDArray[Any]]:
        """All arrays, for a digest."""
        masks: list[NDArray[Any]] = [] if self._ends is None else [self._ends, self._bytes]
        return [self._starts, self.xywh, self.labels, self.crowds, self.areas, *masks]

    def _counts(self, own: slice) -> list[bytes] | None:
        if self._ends is None:
            return None
        ends = self._ends[own.start : own.stop + 1].tolist()
        return [self._bytes[start:end].tobytes() for start, end in zip(ends[:-1], ends[1:], strict=True)]
