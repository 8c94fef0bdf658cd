"""`detect` gives what the detector itself gives, mask by mask."""

import pytest
import torch
from untrained_detector import untrained_detector

from sase_attn.detection.evaluation.detections import detect, evaluating
from sase_attn.detection.evaluation.results import as_results

pytest.importorskip("faster_coco_eval")
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("masks, conventions", [(False, "torchvision"), (True, "torchvision"), (True, "mmdetection")])
def test_what_the_detector_gives(masks, conventions):
    from pycocotools import mask as tools

    model = untrained_detector(masks=masks, conventions=conventions)
    images = [torch.rand(3, 48, 70), torch.rand(3, 90, 40)]
    with torch.no_grad():
        wanted = model(images)
    found = detect(model, images)
    assert [len(seen["scores"]) for seen in found] == [12, 12]
    for image, seen, own in zip(images, found, wanted, strict=True):
        for name in ("boxes", "scores", "labels"):
            assert torch.equal(seen[name], own[name]) and seen[name].dtype == own[name].dtype
        assert ("masks" in seen) == masks
        if masks:
            decoded = [torch.from_numpy(tools.decode(one)) for one in seen["masks"]]
            assert torch.equal(torch.stack(decoded).bool(), own["masks"][:, 0] > 0.5)
            assert 0 < sum(int(one.sum()) for one in decoded) < 12 * image[0].numel()


def test_bytes_are_values_from_0_to_1_and_half_precision_is_the_detectors_own():
    model = untrained_detector(masks=True)
    pixels = torch.randint(0, 256, (3, 60, 50), dtype=torch.uint8)
    (of_bytes,), (of_values,) = detect(model, [pixels]), detect(model, [pixels.float() / 255])
    assert torch.equal(of_bytes["boxes"], of_values["boxes"]) and of_bytes["masks"] == of_values["masks"]
    of_bytes["boxes"] += 1  # ordinary tensors
    (rough,) = detect(model, [pixels], amp="bfloat16")
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        (wanted,) = model([pixels.float() / 255])
    assert rough["boxes"].dtype == rough["scores"].dtype == torch.float32
    assert torch.equal(rough["scores"], wanted["scores"].float()) and torch.equal(rough["boxes"], wanted["boxes"])
    assert not torch.equal(rough["scores"], of_values["scores"])


def test_results_are_in_the_form_and_the_ids_of_coco():
    seen = detect(untrained_detector(masks=True), [torch.rand(3, 48, 70)])[0]
    results = as_results(42, seen, (3, 90))
    assert [row["category_id"] for row in results] == [(3, 90)[label - 1] for label in seen["labels"].tolist()]
    for row, box, mask in zip(results, seen["boxes"], seen["masks"], strict=True):
        assert row["image_id"] == 42 and row["segmentation"] == mask
        x, y, width, height = row["bbox"]
        assert [x, y, x + width, y + height] == pytest.approx(box.tolist(), abs=1e-4)


def test_every_module_is_afterwards_in_the_mode_that_it_was_in():
    model = untrained_detector(masks=False).train()
    model.backbone.body.eval()
    with pytest.raises(RuntimeError), evaluating(model):
        assert not any(module.training for module in model.modules())
        raise RuntimeError
    assert model.training and model.roi_heads.training and not model.backbone.body.training


@pytest.mark.parametrize("conventions", ["torchvision", "mmdetection"])
def test_an_image_in_which_nothing_is_found(conventions):
    model = untrained_detector(masks=True, conventions=conventions)
    model.roi_heads.score_thresh = 1.0
    (seen,) = detect(model, [torch.rand(3, 48, 70)])
    assert seen["boxes"].shape == (0, 4) and not len(seen["scores"]) and seen["masks"] == []
    assert as_results(1, seen, [7]) == []
