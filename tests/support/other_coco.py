"""Artificial objects and detections, and their metrics by pycocotools."""

import contextlib
import copy
import io

import numpy as np

SIDE = 160
CLASSES = {3: "cat", 7: "dog", 90: "rare", 91: "never"}


def polygon(x, y, w, h, rng):
    """A polygon of six points within a box."""
    angles = np.sort(rng.uniform(0, 2 * np.pi, 6))
    points = np.stack([x + w / 2 * (1 + np.cos(angles)), y + h / 2 * (1 + np.sin(angles))], 1)
    return [points.flatten().tolist()]


def encoded(shape):
    from pycocotools import mask

    parts = mask.frPyObjects(shape, SIDE, SIDE)
    rle = mask.merge(parts)
    return {"size": rle["size"], "counts": rle["counts"].decode()}


def made_up(seed, images=7):
    """Objects of all sizes with crowds, and detections: close ones, of another class, of equal scores, or false."""
    rng = np.random.default_rng(seed)
    annotations, found = [], []
    for image in range(1, images + 1):
        for _ in range(int(rng.integers(0, 9)) if image > 1 else 0):
            w, h = rng.uniform(4, 130, 2)
            x, y = rng.uniform(0, SIDE - 10, 2)
            w, h = min(w, SIDE - x), min(h, SIDE - y)
            shape = polygon(x, y, w, h, rng)
            category = int(rng.choice([3, 7, 90], p=[0.6, 0.35, 0.05]))
            annotations.append({"id": len(annotations) + 1, "image_id": image, "category_id": category,
                                "bbox": [x, y, w, h], "area": w * h * 0.7, "iscrowd": int(rng.random() < 0.15),
                                "segmentation": shape})  # fmt: skip
            if annotations[-1]["iscrowd"]:
                annotations[-1]["segmentation"] = encoded(shape)
            for _ in range(int(rng.integers(0, 4))):
                moved = np.array([x, y, w, h]) * rng.normal(1, 0.06, 4)
                score = float(rng.integers(1, 9)) / 8  # many are equal
                other = int(rng.choice([category, category, category, 3, 91]))
                found.append({"image_id": image, "category_id": other, "score": score, "bbox": moved.tolist(),
                              "segmentation": encoded(polygon(*moved, rng))})  # fmt: skip
        if image == 1:  # an image without objects
            found.append({"image_id": 1, "category_id": 3, "score": 0.9, "bbox": [1.0, 2.0, 30.0, 40.0],
                          "segmentation": encoded(polygon(1, 2, 30, 40, rng))})  # fmt: skip
    truth = {
        "images": [{"id": image, "width": SIDE, "height": SIDE} for image in range(1, images + 1)],
        "categories": [{"id": id, "name": name} for id, name in CLASSES.items()],
        "annotations": annotations,
    }
    return truth, found


def by_pycocotools(truth, found, kind):
    """The twelve numbers, and the two of each class."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        known = COCO()
        known.dataset = copy.deepcopy(truth)
        known.createIndex()
        where = {"boxes": "segmentation", "masks": "bbox"}[kind]
        results = [{key: value for key, value in copy.deepcopy(row).items() if key != where} for row in found]
        compared = COCOeval(known, known.loadRes(results), {"boxes": "bbox", "masks": "segm"}[kind])
        compared.evaluate()
        compared.accumulate()
        compared.summarize()
    precision = compared.eval["precision"]
    of_class = []
    for place in range(precision.shape[2]):
        for values in (precision[:, :, place, 0, 2], precision[0, :, place, 0, 2]):
            of_class.append(float(values[values > -1].mean()) if (values > -1).any() else None)
    return [None if value == -1 else float(value) for value in compared.stats], of_class
