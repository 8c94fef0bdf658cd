"""`evaluate_detector`: COCO's metrics of a detector on a set of images, over all ranks."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sase_attn.describe import text_table
from sase_attn.detection.data.coco_set import CocoSet
from sase_attn.detection.evaluation.coco_numbers import CocoNumbers, coco_numbers, require_coco_tools
from sase_attn.detection.evaluation.detections import Detections, detect, evaluating
from sase_attn.detection.evaluation.results import as_results
from sase_attn.detection.evaluation.truth import truth_of
from sase_attn.training.distributed import Ranks

_COLUMNS = ("AP", "AP50", "AP75", "small", "medium", "large")


@dataclass(frozen=True)
class DetectionMetrics:
    """COCO's metrics for boxes, and for masks if the detector predicts them, and the number of images."""

    images: int
    boxes: CocoNumbers
    masks: CocoNumbers | None = None

    @property
    def best_by(self) -> float:
        """The value by which trainings are compared: the average precision, of masks if there are any."""
        return (self.masks or self.boxes).ap or 0.0

    def to_dict(self) -> dict[str, Any]:
        """All numbers, for JSON."""
        masks = None if self.masks is None else self.masks.to_dict()
        return {"images": self.images, "boxes": self.boxes.to_dict(), "masks": masks}

    def line(self) -> str:
        """The most important numbers, in one line."""
        kinds = [(kind, numbers) for kind, numbers in self._kinds() if numbers is not None]
        return ", ".join(f"{kind} AP {_digits(numbers.ap)}, AP50 {_digits(numbers.ap50)}" for kind, numbers in kinds)

    def table(self, *, per_class: bool = False) -> str:
        """The numbers as a text table: a row for boxes, one for masks, and one for each class if `per_class`."""
        rows = [["", *_COLUMNS, "AR1", "AR10", "AR100", "objects"]]
        for kind, numbers in self._kinds():
            if numbers is None:
                continue
            values = (numbers.ap, numbers.ap50, numbers.ap75, numbers.ap_small, numbers.ap_medium, numbers.ap_large,
                      numbers.ar1, numbers.ar10, numbers.ar100)  # fmt: skip
            rows.append([kind, *map(_digits, values), str(sum(row.objects for row in numbers.per_class))])
            if per_class:
                gap = [""] * (len(_COLUMNS) + 1)
                rows += [[f"  {row.name}", _digits(row.ap), _digits(row.ap50), *gap, str(row.objects)]
                         for row in numbers.per_class]  # fmt: skip
        return text_table(rows, right=range(1, len(rows[0])))

    def _kinds(self) -> tuple[tuple[str, CocoNumbers | None], ...]:
        return ("boxes", self.boxes), ("masks", self.masks)


def evaluate_detector(
    model: nn.Module,
    batches: Iterable[tuple[Sequence[Tensor], Sequence[Mapping[str, Any]]]],
    coco_set: CocoSet,
    ranks: Ranks | None = None,
    *,
    masks: bool,
    amp: str = "none",
) -> DetectionMetrics:
    """COCO's metrics on the images of a loader, in eval mode; afterwards every module has its own mode again.

    Each rank evaluates its own images, and all ranks get the metrics over all images. Objects in images that no rank
    has do not count.

    Args:
        model: a detector, such as `create_detector` returns.
        batches: images and their targets, of which "image_id" is used: `loader.epoch(0)`.
        coco_set: the images' annotations.
        ranks: the processes of the run; by default this one alone.
        masks: whether masks are evaluated too.
        amp: type of autocast: "none", "bfloat16" or "float16".

    Raises:
        ValueError: there was no image.
        ImportError: faster-coco-eval is not installed.
        OtherRankError: another rank raised one of these.
    """
    require_coco_tools()  # before the images are looked at
    ranks = ranks or Ranks(0, 1, torch.device("cpu"))
    with ranks.together():
        found = detect_all(model, batches, amp=amp)
    everything = {image: seen for part in ranks.gather(found) for image, seen in part.items()}
    metrics: DetectionMetrics | None = None
    with ranks.together():
        if ranks.is_main:
            metrics = measure(everything, coco_set, masks=masks)
    metrics = ranks.share(metrics)
    assert metrics is not None
    return metrics


def detect_all(
    model: nn.Module,
    batches: Iterable[tuple[Sequence[Tensor], Sequence[Mapping[str, Any]]]],
    *,
    amp: str = "none",
) -> dict[int, Detections]:
    """The detections in the images of a loader, by image id; afterwards every module has its own mode again.

    Args:
        model, batches, amp: as for `evaluate_detector`.

    Raises:
        ImportError: faster-coco-eval, which writes the masks, is not installed.
    """
    found: dict[int, Detections] = {}
    with evaluating(model):
        for images, targets in batches:
            for target, seen in zip(targets, detect(model, images, amp=amp), strict=True):
                found[int(target["image_id"])] = seen
    return found


def measure(found: Mapping[int, Detections], coco_set: CocoSet, *, masks: bool) -> DetectionMetrics:
    """COCO's metrics of detections.

    Args:
        found: the detections by image id, as `detect_all` returns them.
        coco_set: the annotated images; those without an entry in `found` do not count.
        masks: whether masks are evaluated too.

    Raises:
        ValueError: there was no image. ImportError: faster-coco-eval is not installed.
    """
    if not found:
        raise ValueError("nothing to evaluate: wanted at least one image, got none")
    truth = truth_of(coco_set, found, masks=masks)
    results = [row for image, seen in found.items() for row in as_results(image, seen, coco_set.category_ids)]
    boxes = coco_numbers(truth, results, "boxes")
    return DetectionMetrics(len(found), boxes, coco_numbers(truth, results, "masks") if masks else None)


def _digits(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
