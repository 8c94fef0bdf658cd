"""`read_objects`: convert annotations to arrays, and count those that cannot be used."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sase_attn.detection.data.boxes import as_box, check_boxes, hardly_overlap
from sase_attn.detection.data.masks import encode_segmentation, mask_area, mask_box, polygons_box
from sase_attn.detection.data.objects import Objects
from sase_attn.detection.data.parse import CocoRecords, whole_or_none
from sase_attn.detection.data.report import Findings
from sase_attn.quoting import counted

Annotation = dict[str, Any]
Box = tuple[float, float, float, float]


@dataclass
class _Table:
    """Objects with one row each: lists of their annotations, image indices, labels, boxes and masks."""

    annotations: list[Annotation] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    boxes: list[Box] = field(default_factory=list)
    counts: list[bytes] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.annotations)

    def add(self, annotation: Annotation, place: int, label: int, box: Box, counts: bytes) -> None:
        """Add a row."""
        self.annotations.append(annotation)
        self.places.append(place)
        self.labels.append(label)
        self.boxes.append(box)
        self.counts.append(counts)

    def drop(self, rows: NDArray[np.bool_], kind: str, findings: Findings) -> NDArray[np.bool_]:
        """Report the rows to drop, and return a mask of the rows to keep."""
        findings.add(kind, self.names(rows))
        return ~rows

    def names(self, rows: NDArray[np.bool_]) -> list[str]:
        """The names of annotations of some rows, for a report."""
        return [_name(self.annotations[row]) for row in np.flatnonzero(rows)]


def read_objects(
    records: CocoRecords,
    ids: NDArray[np.int64],
    left_out: set[int],
    sizes: NDArray[np.int64],
    *,
    masks: bool,
    findings: Findings,
    source: Path,
) -> Objects:
    """The objects of images.

    Args:
        records: the parsed annotation file.
        ids, sizes: the id, and width and height, of each image that is used.
        left_out: ids of images that are not used; their objects are dropped silently.
        masks: whether to read masks.
        findings: collects what is dropped, changed or odd.
        source: the path of the file, for messages.

    Raises:
        ValueError: there are objects and none can be used; or masks are wanted, and no object has one.
        ImportError: masks are wanted, and the extra `detection` is missing.
    """
    known = _of_known_images(records, ids, left_out, findings)
    table = _Table()
    problems: list[str] = []
    for place, label, annotation in known:
        width, height = map(int, sizes[place])
        counts = b""
        if masks:
            try:
                counts = encode_segmentation(annotation.get("segmentation"), height, width)
            except ValueError as error:
                problems.append(f"{_name(annotation)}: {error}")
                continue
        box = _box(annotation, counts, height, width)
        if box is None:
            findings.add("no_box", [_name(annotation)])
            continue
        table.add(annotation, place, label, box, counts)
    if known and len(problems) == len(known):
        raise ValueError(f"{source}: none of {counted(len(known), 'object')} has a mask ({problems[0]}); "
                         'without masks there is the detector "faster_rcnn"')  # fmt: skip
    findings.add("no_mask", problems)
    objects = _arrays(table, sizes, masks, findings)
    if records.annotations and not left_out and not objects.count:
        told = "; ".join(str(finding) for finding in findings.in_order())
        raise ValueError(f"{source}: none of {len(records.annotations)} objects can be used: {told}")
    return objects


def _of_known_images(
    records: CocoRecords, ids: NDArray[np.int64], left_out: set[int], findings: Findings
) -> list[tuple[int, int, Annotation]]:
    """Image index, label and annotation, for annotations whose image and category the file lists; image by image."""
    places = {int(number): place for place, number in enumerate(ids)}
    labels = {number: place + 1 for place, number in enumerate(records.categories)}
    known = []
    for annotation in records.annotations:
        image, category = whole_or_none(annotation.get("image_id")), whole_or_none(annotation.get("category_id"))
        if image in left_out:
            continue
        if image is None or image not in places:
            findings.add("unknown_images", [_name(annotation)])
        elif category is None or category not in labels:
            findings.add("unknown_categories", [_name(annotation)])
        else:
            known.append((places[image], labels[category], annotation))
    return sorted(known, key=lambda item: item[0])


def _box(annotation: Annotation, counts: bytes, height: int, width: int) -> Box | None:
    """The box of an annotation; if it has none, the box around its mask."""
    given = annotation.get("bbox")
    if given:
        return as_box(given)
    around = mask_box(counts, height, width).tolist() if counts else polygons_box(annotation.get("segmentation"))
    return as_box(around)


def _arrays(table: _Table, sizes: NDArray[np.int64], masks: bool, findings: Findings) -> Objects:
    places = np.array(table.places, np.int64)
    checked = check_boxes(np.array(table.boxes, np.float64).reshape(-1, 4), sizes[places])
    kept = table.drop(checked.no_area, "no_area", findings) & table.drop(checked.outside, "outside", findings)
    findings.add("cropped", table.names(checked.cropped))
    rows = np.flatnonzero(kept).tolist()
    xywh, labels = checked.xywh[kept], np.array(table.labels, np.int64)[kept]
    crowds = np.array([_is_crowd(annotation.get("iscrowd")) for annotation in table.annotations], np.bool_)
    findings.add("crowds", table.names(crowds & kept))
    counts = [table.counts[row] for row in rows] if masks else None
    areas = np.array([_area(table, row, checked.xywh[row], sizes) for row in rows], np.float64)
    _tell_odd(table, rows, xywh, counts, sizes, findings)
    return Objects(sizes, places[kept], xywh, labels, crowds[kept], areas, counts)


def _is_crowd(value: object) -> bool:
    """Whether a value of `iscrowd` means a crowd: COCO has 0 or 1, some tools write text."""
    return value.strip().lower() in ("1", "true") if isinstance(value, str) else bool(value)


def _area(table: _Table, row: int, xywh: NDArray[np.float64], sizes: NDArray[np.int64]) -> float:
    """The area of an object from the file; otherwise that of its mask, or of its box."""
    given = table.annotations[row].get("area")
    if isinstance(given, int | float) and not isinstance(given, bool) and 0 < given < 1e18:
        return float(given)
    if table.counts[row]:
        width, height = map(int, sizes[table.places[row]])
        return mask_area(table.counts[row], height, width)
    return float(xywh[2] * xywh[3])


def _tell_odd(
    table: _Table,
    rows: list[int],
    xywh: NDArray[np.float64],
    counts: list[bytes] | None,
    sizes: NDArray[np.int64],
    findings: Findings,
) -> None:
    """Report objects that occur twice, and objects whose mask does not lie in their box."""
    keys = [(table.places[row], table.labels[row], *box) for row, box in zip(rows, xywh.tolist(), strict=True)]
    seen: Counter[tuple[float, ...]] = Counter()
    for row, key in zip(rows, keys, strict=True):
        seen[key] += 1
        if seen[key] > 1:
            findings.add("duplicates", [_name(table.annotations[row])])
    if counts:
        around = [
            mask_box(one, *map(int, sizes[table.places[row]][::-1])) for row, one in zip(rows, counts, strict=True)
        ]
        odd = hardly_overlap(xywh, np.stack(around))
        findings.add(
            "other_mask", (_name(table.annotations[row]) for row, is_odd in zip(rows, odd, strict=True) if is_odd)
        )


def _name(annotation: Annotation) -> str:
    return f"annotation {annotation.get('id')} of image {annotation.get('image_id')}"
