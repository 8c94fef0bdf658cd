"""COCO's numbers are pycocotools', in every case that it knows."""

import copy
from dataclasses import astuple

import numpy as np
import pytest
from other_coco import CLASSES, by_pycocotools, made_up

from sase_attn.detection.evaluation.coco_numbers import coco_numbers

pytest.importorskip("faster_coco_eval")


@pytest.mark.parametrize("kind", ["boxes", "masks"])
@pytest.mark.parametrize("seed", range(6))
def test_numbers_are_those_of_pycocotools(seed, kind):
    truth, found = made_up(seed)
    before = copy.deepcopy((truth, found))
    numbers = coco_numbers(truth, found, kind)
    assert (truth, found) == before  # nothing is written into what is given
    twelve, of_class = by_pycocotools(truth, found, kind)
    assert list(astuple(numbers)[:12]) == pytest.approx(twelve, abs=1e-12)
    assert [value for row in numbers.per_class for value in (row.ap, row.ap50)] == pytest.approx(of_class, abs=1e-12)
    assert 0 < numbers.ap < 1 and [row.name for row in numbers.per_class] == list(CLASSES.values())
    counts = [sum(row["category_id"] == id and not row["iscrowd"] for row in truth["annotations"]) for id in CLASSES]
    assert [row.objects for row in numbers.per_class] == counts
    assert numbers.per_class[3].ap is None and numbers.to_dict()["per_class"]["never"]["ap50"] is None


def test_many_detections_of_an_image_are_cut_as_there():
    truth, found = made_up(1)
    rng = np.random.default_rng(2)
    for row in list(found):
        for _ in range(12):
            found.append(row | {"score": float(rng.random()), "bbox": (np.array(row["bbox"]) + 2).tolist()})
    assert max(sum(row["image_id"] == image for row in found) for image in range(1, 8)) > 120
    twelve, _ = by_pycocotools(truth, found, "boxes")
    assert list(astuple(coco_numbers(truth, found, "boxes"))[:12]) == pytest.approx(twelve, abs=1e-12)


def test_nothing_found_is_zero_and_nothing_there_is_none():
    truth, found = made_up(3)
    for kind in ("boxes", "masks"):
        nothing_found = coco_numbers(truth, [], kind)
        assert nothing_found.ap == nothing_found.ar100 == 0.0
        nothing_there = coco_numbers(truth | {"annotations": []}, found, kind)
        assert astuple(nothing_there)[:12] == (None,) * 12
        assert coco_numbers(truth | {"annotations": []}, [], kind).ap is None


@pytest.mark.parametrize("more", [-1, -7, 10**12, 2**62])
def test_ids_may_be_any(more):
    """To pycocotools annotation 0 is found by nobody, and faster-coco-eval takes ids of 62 bits for one."""
    truth, found = made_up(4)
    wanted = coco_numbers(truth, found, "boxes")
    for row in truth["annotations"]:
        row.update(id=row["id"] + more)
    for row in truth["annotations"] + found:
        row.update(image_id=row["image_id"] + more, category_id=row["category_id"] + more)
    for row in truth["images"] + truth["categories"]:
        row.update(id=row["id"] + more)
    assert coco_numbers(truth, found, "boxes") == wanted
