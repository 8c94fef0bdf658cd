"""Which class is taken for which: the right ones are COCO's true positives, and everything is counted once."""

import contextlib
import io
import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from other_coco import CLASSES, SIDE, made_up

from sase_attn.detection.data.objects import ImageObjects
from sase_attn.detection.evaluation.confusion import confusion_of, pairs
from sase_attn.detection.evaluation.detections import Detections

pytest.importorskip("faster_coco_eval")
IDS = list(CLASSES)


def objects_of(boxes, labels, crowds=None, areas=None):
    xywh = np.array(boxes, np.float64).reshape(-1, 4)
    crowds = np.array(crowds if crowds is not None else [False] * len(xywh), bool)
    areas = xywh[:, 2] * xywh[:, 3] if areas is None else np.array(areas, np.float64)
    return ImageObjects(xywh, np.array(labels, np.int64), crowds, areas, None, SIDE, SIDE)


def seen_as(boxes, labels, scores):
    corners = torch.tensor(boxes, dtype=torch.float32).view(-1, 4).clone()
    corners[:, 2:] += corners[:, :2]
    return Detections(boxes=corners, labels=torch.tensor(labels, dtype=torch.int64), scores=torch.tensor(scores))


def as_set(objects):
    """What `confusion_of` looks at, of images 1, 2, …"""
    images = [SimpleNamespace(id=place + 1) for place in range(len(objects))]
    return SimpleNamespace(classes=tuple(CLASSES.values()), images=images, objects=objects)


def of_image(truth, found, image):
    own = [row for row in truth["annotations"] if row["image_id"] == image]
    objects = objects_of(
        [row["bbox"] for row in own],
        [IDS.index(row["category_id"]) + 1 for row in own],
        [row["iscrowd"] for row in own],
        [row["area"] for row in own],
    )
    rows = sorted((row for row in found if row["image_id"] == image), key=lambda row: -row["score"])
    return objects, seen_as(
        [row["bbox"] for row in rows],
        [IDS.index(row["category_id"]) + 1 for row in rows],
        [row["score"] for row in rows],
    )


def true_positives(truth, found, min_score):
    """Of each class, by pycocotools; and how many detections it does not count."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        known = COCO()
        known.dataset = truth
        known.createIndex()
        kept = [{key: row[key] for key in ("image_id", "category_id", "score", "bbox")} for row in found]
        compared = COCOeval(known, known.loadRes([row for row in kept if row["score"] >= min_score]), "bbox")
        compared.params.iouThrs, compared.params.areaRng, compared.params.maxDets = [0.5], [[0, 1e10]], [1000]
        compared.evaluate()
    right, ignored = dict.fromkeys(IDS, 0), 0
    for image in filter(None, compared.evalImgs):
        counted = ~image["dtIgnore"][0].astype(bool)
        right[image["category_id"]] += int(((image["dtMatches"][0] > 0) & counted).sum())
        ignored += int((~counted).sum())
    return list(right.values()), ignored


@pytest.mark.parametrize("seed", range(4))
def test_the_diagonal_is_cocos_true_positives(seed):
    truth, found = made_up(seed)
    objects, seen = zip(*(of_image(truth, found, image) for image in range(1, 8)), strict=True)
    confusion = confusion_of(dict(enumerate(seen, start=1)), as_set(objects), min_score=0.4)
    right, ignored = true_positives(truth, found, 0.4)
    assert confusion.counts.diagonal()[:-1].tolist() == right and sum(right) > 5
    of_class = [sum(row["category_id"] == id and not row["iscrowd"] for row in truth["annotations"]) for id in IDS]
    assert confusion.counts[:-1].sum(1).tolist() == of_class
    kept = sum(row["score"] >= 0.4 for row in found)
    assert int(confusion.counts[:, :-1].sum()) == kept - ignored
    assert sum(size.objects for size in confusion.sizes) == sum(of_class)
    assert sum(size.found for size in confusion.sizes) == sum(right)
    assert sum(size.false_alarms for size in confusion.sizes) == int(confusion.counts[-1].sum())
    assert sum(size.missed for size in confusion.sizes) == int(confusion.counts[:-1, -1].sum())


def test_a_worked_example():
    small, large, other = [10, 10, 20, 20], [50, 50, 100, 100], [5, 100, 30, 30]
    objects = objects_of([small, large, other], [1, 2, 1])
    seen = seen_as(
        [large, large, [12, 10, 20, 20], [100, 5, 10, 10], other],
        [1, 2, 2, 1, 1],
        [0.9, 0.8, 0.7, 0.6, 0.3],
    )  # the dog is found though a cat is surer; the small cat is taken for a dog; a cat where nothing is; one unsure
    matched = pairs(seen, objects)
    assert matched.object_of.tolist() == [-1, 1, 0, -1, -2] and matched.detection_of.tolist() == [2, 1, -1]
    confusion = confusion_of({1: seen}, as_set([objects]))
    wanted = torch.zeros(5, 5, dtype=torch.int64)
    wanted[1, 1] = wanted[0, 1] = wanted[0, 4] = 1
    wanted[4, 0] = 2
    assert torch.equal(confusion.counts, wanted)
    by_size = {size.name: vars(size) for size in confusion.sizes}
    assert by_size["small"] == {"name": "small", "objects": 2, "found": 0, "mistaken": 1, "missed": 1,
                                "false_alarms": 1}  # fmt: skip
    assert by_size["large"]["found"] == 1 and by_size["large"]["false_alarms"] == 1
    assert by_size["medium"]["objects"] == 0
    lines = confusion.table().splitlines()
    assert lines[1].split() == ["cat", "2", "0", "1", "1", "2", "dog", "(1)"]
    assert lines[2].split() == ["dog", "1", "1", "0", "0", "0"] and lines[-1].split()[0] == "large"
    value = json.loads(json.dumps(confusion.to_dict()))
    assert value["confusion"]["cat"] == {"dog": 1, "not found": 1} and value["confusion"]["background"] == {"cat": 2}
    assert value["sizes"]["small"]["mistaken"] == 1 and value["min_score"] == 0.5


def test_what_lies_in_a_crowd_of_its_class_is_not_counted():
    objects = objects_of([[0, 0, 100, 100], [10, 10, 20, 20]], [1, 2], [True, False])
    seen = seen_as([[5, 5, 30, 30], [60, 60, 20, 20], [70, 70, 20, 20]], [1, 1, 2], [0.9, 0.8, 0.7])
    confusion = confusion_of({1: seen}, as_set([objects]))
    assert confusion.counts[0].sum() == 0 and confusion.counts[1, 4] == 1  # a crowd is no object
    assert confusion.counts[-1].tolist() == [0, 1, 0, 0, 0]  # only what is of another class


def test_images_that_were_not_seen_and_empty_ones():
    nothing, one = objects_of([], []), objects_of([[1, 1, 9, 9]], [2])
    confusion = confusion_of(
        {1: seen_as([[0, 0, 5, 5]], [1], [0.9]), 3: seen_as([], [], [])}, as_set([nothing, one, one])
    )
    assert int(confusion.counts.sum()) == 2 and confusion.counts[-1, 0] == confusion.counts[1, -1] == 1


def test_a_class_may_be_called_background():
    confusion = replace(confusion_of({}, as_set([])), classes=("background", "not found", "(not found)"))
    assert confusion.rows[-1] == "(background)" and confusion.columns[-1] == "((not found))"
