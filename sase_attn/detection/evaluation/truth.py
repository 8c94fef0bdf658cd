"""`truth_of`: the objects of images in the form of a COCO annotation file, for an evaluation."""

from collections.abc import Container
from typing import Any

from sase_attn.detection.data.coco_set import CocoSet


def truth_of(coco_set: CocoSet, image_ids: Container[int], *, masks: bool) -> dict[str, Any]:
    """The images with these ids and their objects, crowds included; with masks if `masks`.

    Raises:
        ValueError: `masks` is set, but the set was opened without masks.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for place, image in enumerate(coco_set.images):
        if image.id not in image_ids:
            continue
        images.append({"id": image.id, "width": image.width, "height": image.height})
        objects = coco_set.objects[place]
        rows = [
            {"image_id": image.id, "category_id": coco_set.category_ids[label - 1], "bbox": box, "area": area,
             "iscrowd": int(crowd)}
            for label, box, area, crowd in zip(objects.labels.tolist(), objects.xywh.tolist(), objects.areas.tolist(),
                                               objects.crowds.tolist(), strict=True)
        ]  # fmt: skip
        for row, mask in zip(rows, objects.run_lengths if masks else (), strict=False):
            row["segmentation"] = mask
        annotations += rows
    names = zip(coco_set.category_ids, coco_set.classes, strict=True)
    categories = [{"id": category, "name": name} for category, name in names]
    return {"images": images, "annotations": annotations, "categories": categories}
