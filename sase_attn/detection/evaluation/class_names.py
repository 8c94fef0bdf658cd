"""Match a detector's labels by name with those of a data set in another order: `labels_by_name`, `relabelled`."""

from collections.abc import Sequence

import torch

from sase_attn.detection.data.coco_set import CocoSet
from sase_attn.detection.evaluation.detections import Detections
from sase_attn.training.data.identity import listed


def labels_by_name(known: Sequence[str], wanted: Sequence[str]) -> tuple[int, ...]:
    """For each class that a detector knows, its label in a set; 0 if the set does not have the class.

    Raises:
        ValueError: the set has none of the classes.
    """
    labels = tuple(wanted.index(name) + 1 if name in wanted else 0 for name in known)
    if not any(labels):
        raise ValueError(
            f"the detector knows none of the classes of the annotations: wanted some of {listed(list(known))}, "
            f"got {listed(list(wanted))}"
        )
    return labels


def unknown_classes(known: Sequence[str], coco_set: CocoSet) -> tuple[str, ...]:
    """The classes of a set that have objects, crowds left out, and that a detector does not know: their AP is 0."""
    used = set(coco_set.objects.labels[~coco_set.objects.crowds].tolist())
    return tuple(name for label, name in enumerate(coco_set.classes, start=1) if label in used and name not in known)


def relabelled(seen: Detections, labels: Sequence[int]) -> Detections:
    """Detections with the labels from `labels_by_name`; those of classes that the set does not have are dropped."""
    mapped = torch.tensor(labels, dtype=torch.int64)[seen["labels"] - 1]
    kept = mapped > 0
    made = Detections(boxes=seen["boxes"][kept], scores=seen["scores"][kept], labels=mapped[kept])
    if "masks" in seen:
        made["masks"] = [mask for mask, keep in zip(seen["masks"], kept.tolist(), strict=True) if keep]
    return made
