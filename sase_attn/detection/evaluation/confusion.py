"""`DetectionConfusion`: confused classes, missed objects and false positives of a detector.

A detection and an object can be a pair if their boxes overlap by IoU 0.5 or more. As in COCO, the detection with the
highest score chooses first, among the objects of its class; then the remaining ones are paired across classes. A
detection in a crowd of its class is not counted.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sase_attn.describe import text_table
from sase_attn.detection.data.coco_set import CocoSet
from sase_attn.detection.data.coco_sizes import SIZES, size_of
from sase_attn.detection.data.masks import mask_tools
from sase_attn.detection.data.objects import ImageObjects
from sase_attn.detection.evaluation.detections import Detections

OVERLAP = 0.5
SCORE = 0.5

BACKGROUND, MISSED = "background", "not found"


@dataclass(frozen=True)
class Pairs:
    """The pairs of detections and objects of an image, by indices; -1 means no partner.

    Attributes:
        object_of: the object of each detection, int64 (N,); -2 if it is not counted: its score is low, or it is in a
            crowd.
        detection_of: the detection of each object, int64 (M,); -2 for a crowd, which counts as no object.
    """

    object_of: NDArray[np.int64]
    detection_of: NDArray[np.int64]


def pairs(seen: Detections, objects: ImageObjects, *, min_score: float = SCORE) -> Pairs:
    """The pairs of one image. Raises ImportError if faster-coco-eval is not installed."""
    labels, scores = seen["labels"].numpy(), seen["scores"].numpy()
    object_of = np.full(len(labels), -1, np.int64)
    detection_of = np.where(objects.crowds, -2, -1)
    object_of[scores < min_score] = -2
    if not len(labels) or not len(objects):
        return Pairs(object_of, detection_of)
    boxes = seen["boxes"].double().numpy()
    xywh = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1)
    overlaps = np.asarray(mask_tools().iou(xywh, objects.xywh, objects.crowds.astype(int).tolist()))
    order = [place for place in np.argsort(-scores, kind="stable") if scores[place] >= min_score]
    same = labels[:, None] == objects.labels[None]
    in_crowd = (same & objects.crowds[None] & (overlaps >= OVERLAP)).any(1)
    for allowed in (same, ~same):
        for place in order:
            free = (detection_of == -1) & allowed[place] & (overlaps[place] >= OVERLAP)
            if object_of[place] == -1 and free.any():
                best = int(np.argmax(np.where(free, overlaps[place], -1)))
                object_of[place], detection_of[best] = best, place
        object_of[(object_of == -1) & in_crowd] = -2
    return Pairs(object_of, detection_of)


@dataclass(frozen=True)
class SizeCounts:
    """Counts for a size of objects: all, correctly detected, confused and missed ones, and false positives."""

    name: str
    objects: int
    found: int
    mistaken: int
    missed: int
    false_alarms: int


@dataclass(frozen=True)
class DetectionConfusion:
    """The number of objects of each class (rows) that were detected as each class (columns).

    Attributes:
        classes: names of the classes, without the background.
        counts: int64 (K + 1, K + 1). The last row holds false positives, the last column missed objects.
        sizes: counts by COCO's sizes.
        min_score: detections with a lower score are not counted.
    """

    classes: tuple[str, ...]
    counts: Tensor
    sizes: tuple[SizeCounts, ...]
    min_score: float = field(default=SCORE)

    @property
    def rows(self) -> tuple[str, ...]:
        """Names of the rows."""
        return (*self.classes, _apart(BACKGROUND, self.classes))

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns."""
        return (*self.classes, _apart(MISSED, self.classes))

    def to_dict(self) -> dict[str, Any]:
        """All counts above 0, for JSON."""
        confusion = {
            name: {self.columns[column]: int(row[column]) for column in row.nonzero().flatten().tolist()}
            for name, row in zip(self.rows, self.counts, strict=True)
        }
        sizes = {row.name: {key: value for key, value in vars(row).items() if key != "name"} for row in self.sizes}
        return {"overlap": OVERLAP, "min_score": self.min_score, "confusion": confusion, "sizes": sizes}

    def table(self) -> str:
        """A table by class and by size: objects found, taken for another class and missed, and false positives."""
        rows = [["", "objects", "found", "other class", "not found", "false alarms", "most often taken for"]]
        for place, name in enumerate(self.classes):
            row = self.counts[place]
            others = row[:-1].clone()
            others[place] = 0
            most = int(others.argmax())
            taken = f"{self.classes[most]} ({int(others[most])})" if others[most] else ""
            values = torch.stack([row.sum(), row[place], others.sum(), row[-1], self.counts[-1, place]])
            rows.append([name, *map(str, values.tolist()), taken])
        for size in self.sizes:
            counts = (size.objects, size.found, size.mistaken, size.missed, size.false_alarms)
            rows.append([size.name, *map(str, counts), ""])
        return text_table(rows, right=range(1, len(rows[0]) - 1))


def _apart(name: str, classes: tuple[str, ...]) -> str:
    """A name for a row or column that is no class; in brackets if a class has this name."""
    return _apart(f"({name})", classes) if name in classes else name


def confusion_of(found: Mapping[int, Detections], coco_set: CocoSet, *, min_score: float = SCORE) -> DetectionConfusion:
    """The confusion of detections.

    Args:
        found: the detections by image id, as `detect_all` returns them.
        coco_set: the annotated images; those without an entry in `found` do not count.
        min_score: detections with a lower score are not counted.

    Raises:
        ImportError: faster-coco-eval is not installed.
    """
    classes = len(coco_set.classes)
    counts = torch.zeros(classes + 1, classes + 1, dtype=torch.int64)
    by_size = np.zeros((len(SIZES), 5), np.int64)
    for place, image in enumerate(coco_set.images):
        if image.id not in found:
            continue
        seen, objects = found[image.id], coco_set.objects[place]
        matched = pairs(seen, objects, min_score=min_score)
        labels = seen["labels"].numpy() - 1
        for row, size, other in zip(objects.labels - 1, size_of(objects.areas), matched.detection_of, strict=True):
            if other == -2:
                continue
            column = classes if other == -1 else int(labels[other])
            counts[int(row), column] += 1
            by_size[size, 0] += 1
            by_size[size, 3 if other == -1 else 1 if column == row else 2] += 1
        alone = matched.object_of == -1
        boxes = seen["boxes"].double().numpy()[alone]
        areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        for column, size in zip(labels[alone], size_of(areas), strict=True):
            counts[-1, int(column)] += 1
            by_size[size, 4] += 1
    sizes = tuple(SizeCounts(name, *map(int, row)) for name, row in zip(SIZES, by_size, strict=True))
    return DetectionConfusion(coco_set.classes, counts, sizes, min_score)
