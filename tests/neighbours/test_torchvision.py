"""Detectors of torchvision."""

import pytest
import torch

from sase_attn import attach


@pytest.mark.works_with("torchvision", "`attach` in Faster R-CNN's backbone: losses, backward, boxes")
def test_detector():
    from torchvision.models.detection import fasterrcnn_resnet50_fpn

    small = {"min_size": 64, "max_size": 64, "rpn_post_nms_top_n_train": 8, "rpn_post_nms_top_n_test": 8}
    network = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=2, **small)
    places = attach(network, after="backbone.body.layer*.*.bn3", attn="sase")
    assert len(places) == 16
    targets = [{"boxes": torch.tensor([[8.0, 8.0, 40.0, 40.0]]), "labels": torch.tensor([1])}]
    losses = network.train()([torch.rand(3, 64, 64)], targets)
    sum(losses.values()).backward()
    gates = [p for name, p in network.named_parameters() if ".attn." in name]
    assert gates and all(p.grad is not None for p in gates)
    with torch.no_grad():
        (found,) = network.eval()([torch.rand(3, 64, 64)])
    assert found["boxes"].shape[1] == 4
