"""COCO's twelve numbers of a detector, and the average precision of each class: `coco_numbers`, by faster-coco-eval.

They equal pycocotools' to the last digit. A number for which COCO writes -1, because there is nothing to average, is
None.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from importlib.util import find_spec
from typing import Any

from sase_attn.detection.data.masks import NEEDED

_IOU_TYPES = {"boxes": "bbox", "masks": "segm"}


@dataclass(frozen=True)
class ClassNumbers:
    """A class: the number of its objects without crowds, and its average precision, at IoU 0.5:0.95 and at 0.5."""

    name: str
    objects: int
    ap: float | None
    ap50: float | None


@dataclass(frozen=True)
class CocoNumbers:
    """Average precision (ap) and recall (ar), from 0 to 1; None if there is no object of the kind.

    `ap` and the recalls are means over IoU 0.5:0.95. Small objects are below 32² pixels, large ones above 96². `ar1`,
    `ar10` and `ar100` use that many detections of a class per image, all other numbers use 100.
    """

    ap: float | None
    ap50: float | None
    ap75: float | None
    ap_small: float | None
    ap_medium: float | None
    ap_large: float | None
    ar1: float | None
    ar10: float | None
    ar100: float | None
    ar_small: float | None
    ar_medium: float | None
    ar_large: float | None
    per_class: tuple[ClassNumbers, ...]

    def to_dict(self) -> dict[str, Any]:
        """All numbers, for JSON; `per_class` by name."""
        per_class = {row.name: {"objects": row.objects, "ap": row.ap, "ap50": row.ap50} for row in self.per_class}
        return asdict(self) | {"per_class": per_class}


def require_coco_tools() -> None:
    """Raise ImportError unless faster-coco-eval is installed; call it before long work that needs the package."""
    if find_spec("faster_coco_eval") is None:
        raise ImportError(NEEDED)


def coco_numbers(truth: Mapping[str, Any], found: Sequence[Mapping[str, Any]], kind: str) -> CocoNumbers:
    """Compare detections with the true objects.

    Args:
        truth: the content of a COCO annotation file: "images", "annotations" and "categories". All ids are numbered
            anew, because COCO's tools treat an annotation with id 0 as no match, and confuse ids of 62 bits.
        found: COCO results of these images and categories: "image_id", "category_id", "score", and the "bbox", or the
            "segmentation" as RLE.
        kind: "boxes" or "masks". For masks, boxes in results are ignored: the area of a result is that of its mask.

    Raises:
        ImportError: faster-coco-eval is not installed.
    """
    require_coco_tools()
    from faster_coco_eval import COCO, COCOeval_faster

    images = {row["id"]: number for number, row in enumerate(truth["images"], start=1)}
    names = {row["id"]: row["name"] for row in sorted(truth["categories"], key=lambda row: row["id"])}
    categories = {id: number for number, id in enumerate(names, start=1)}

    def numbered(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        places = [{"image_id": images[row["image_id"]], "category_id": categories[row["category_id"]]} for row in rows]
        return [{**row, **place, "id": id} for id, (row, place) in enumerate(zip(rows, places, strict=True), start=1)]

    where = "bbox" if kind == "boxes" else "segmentation"
    known = COCO(
        {
            "images": [{**row, "id": images[row["id"]]} for row in truth["images"]],
            "annotations": numbered(truth["annotations"]),
            "categories": [{"id": number, "name": names[id]} for id, number in categories.items()],
        }
    )
    results = numbered([{key: row[key] for key in ("image_id", "category_id", "score", where)} for row in found])
    compared = COCOeval_faster(known, known.loadRes(results), _IOU_TYPES[kind], print_function=_silent)
    compared.run()
    precision = compared.eval["precision"]
    counts = Counter(row["category_id"] for row in truth["annotations"] if not row.get("iscrowd", 0))
    per_class = [
        ClassNumbers(name, counts[id], _mean(precision[:, :, place, 0, -1]), _mean(precision[:1, :, place, 0, -1]))
        for place, (id, name) in enumerate(names.items())
    ]
    twelve = dict(zip([item.name for item in fields(CocoNumbers)][:-1], map(_known, compared.stats), strict=True))
    return CocoNumbers(**twelve, per_class=tuple(per_class))


def _silent(line: str) -> None:
    """Discard a line of faster-coco-eval's report."""


def _mean(values: Any) -> float | None:
    """The mean of the values that are not -1, by which COCO marks unknown ones; None if all are."""
    known = values[values > -1]
    return float(known.mean()) if known.size else None


def _known(value: Any) -> float | None:
    return None if value == -1 else float(value)
