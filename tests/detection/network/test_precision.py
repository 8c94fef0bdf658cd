"""Under autocast boxes are not rounded to the few digits of a short type."""

import pytest
import torch
from tiny_detector import images_and_targets, tiny_config

from sase_attn.detection.network import create_detector

pytestmark = pytest.mark.usefixtures("one_thread")


def test_boxes_have_all_their_digits():
    config = tiny_config(detector="mask_rcnn", score_threshold=0.0, min_size=(144,), max_size=200)
    model = create_detector(config, 2).eval()
    regions = []
    model.rpn.register_forward_hook(lambda module, inputs, output: regions.extend(output[0]))
    images, targets = images_and_targets(masks=True)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found = model(images)
        losses = model.train()(images, targets)
    assert len(regions) == 4 and all(torch.isfinite(value) for value in losses.values())
    for boxes in [*regions, *(seen["boxes"] for seen in found)]:
        assert boxes.dtype == torch.float32
        inner = boxes[(boxes > 128) & (boxes < 256)]  # where bfloat16 has whole pixels only
        assert not len(inner) or (inner != inner.round()).any()
    assert any(len(boxes[(boxes > 128) & (boxes < 256)]) for boxes in regions)
    assert all(value.dtype == torch.float32 for seen in found for value in seen.values() if value.is_floating_point())
