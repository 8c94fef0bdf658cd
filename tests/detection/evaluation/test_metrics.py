"""`evaluate_detector`: the numbers of the annotation file, on one rank and on two."""

import json
from dataclasses import astuple

import pytest
import untrained_detector as on_ranks
import warm
from detection_data import draw_coco, edit
from other_coco import by_pycocotools
from untrained_detector import untrained_detector

from sase_attn.detection.data.loader import DetectionLoader
from sase_attn.detection.data.read_coco import read_coco
from sase_attn.detection.evaluation.metrics import detect_all, evaluate_detector
from sase_attn.detection.evaluation.results import as_results
from sase_attn.training.data.order import Shard

pytest.importorskip("faster_coco_eval")
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Five images of 64x48, one empty. Most objects are where the detector sees some, two are not, one is a crowd."""
    folder = draw_coco(tmp_path_factory.mktemp("coco"), train=1, val=5)
    data, loader = opened(folder)
    found = detect_all(untrained_detector(masks=True), loader.epoch(0))
    rows = {image: as_results(image, seen, data.category_ids) for image, seen in found.items()}

    def move(value):
        for place, annotation in enumerate(value["annotations"][:10]):
            seen = rows[annotation["image_id"]][place % 3 * 3]
            x, y, width, height = map(round, seen["bbox"])
            annotation.update(bbox=[x, y, max(2, width - 1), max(2, height)], category_id=seen["category_id"])
            annotation["segmentation"] = seen["segmentation"] | {"counts": seen["segmentation"]["counts"].decode()}
        value["annotations"][2].update(iscrowd=1)

    edit(folder / "val.json", move)
    return folder


def opened(folder, masks=True):
    data = read_coco(folder / "val.json", folder / "val", masks=masks, on_broken="refuse")
    return data, DetectionLoader(data, batch_size=1, shard=Shard(0), training=False)


def test_the_numbers_are_those_of_pycocotools_on_the_file(folder):
    data, loader = opened(folder)
    model = untrained_detector(masks=True).train()
    metrics = evaluate_detector(model, loader.epoch(0), data, masks=True)
    assert metrics.images == 5 and model.training
    found = detect_all(model, loader.epoch(0))
    rows = [row for image, seen in found.items() for row in as_results(image, seen, data.category_ids)]
    truth = json.loads((folder / "val.json").read_text())
    assert {row["category_id"] for row in rows} == {3, 7} and len(rows) == 60
    for kind, numbers in (("boxes", metrics.boxes), ("masks", metrics.masks)):
        twelve, of_class = by_pycocotools(truth, rows, kind)
        assert list(astuple(numbers)[:12]) == pytest.approx(twelve, abs=1e-9)
        assert [value for row in numbers.per_class for value in (row.ap, row.ap50)] == pytest.approx(of_class, abs=1e-9)
    assert sum(row.objects for row in metrics.boxes.per_class) == 11  # the crowd is none
    assert metrics.best_by == metrics.masks.ap and metrics.boxes.ap50 > 0 and metrics.masks.ap50 > 0


def test_two_ranks_give_the_numbers_of_one(folder):
    data, loader = opened(folder)
    alone = evaluate_detector(untrained_detector(masks=True), loader.epoch(0), data, masks=True).to_dict()
    ends = warm.run_ranks(2, on_ranks.__file__, folder)
    assert [end.returncode for end in ends] == [0, 0], ends[0].stderr + ends[1].stderr
    assert [json.loads(end.stdout) for end in ends] == [json.loads(json.dumps(alone))] * 2


def test_only_images_that_were_seen_count(folder):
    data, loader = opened(folder, masks=False)
    batches = list(loader.epoch(0))
    some = evaluate_detector(untrained_detector(masks=False), batches[1:2], data, masks=False)  # has no objects
    assert some.images == 1 and some.boxes.ap is None and some.best_by == 0.0 and some.masks is None
    with pytest.raises(ValueError, match="nothing to evaluate: wanted at least one image, got none"):
        evaluate_detector(untrained_detector(masks=False), [], data, masks=False)


def test_the_numbers_as_text_and_as_json(folder):
    data, loader = opened(folder)
    metrics = evaluate_detector(untrained_detector(masks=True), loader.epoch(0), data, masks=True)
    lines = metrics.table(per_class=True).splitlines()
    assert lines[0].split() == ["AP", "AP50", "AP75", "small", "medium", "large", "AR1", "AR10", "AR100", "objects"]
    assert [line.split()[0] for line in lines[1:]] == ["boxes", "square", "triangle", "masks", "square", "triangle"]
    assert lines[1].split()[6] == "–" and lines[1].split()[-1] == "11"  # no large object
    assert len(metrics.table().splitlines()) == 3
    assert metrics.line().startswith("boxes AP 0.") and ", masks AP 0." in metrics.line()
    value = json.loads(json.dumps(metrics.to_dict()))
    assert value["images"] == 5 and value["masks"]["ap_large"] is None and len(value["boxes"]) == 13
    assert set(value["boxes"]["per_class"]) == {"square", "triangle"}
