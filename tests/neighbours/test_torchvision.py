"""Detectors of torchvision."""

import networks
import pytest
import torch
from tiny_detector import images_and_targets, tiny_config

from sase_attn import attach, fuse, replace, tile
from sase_attn.detection import create_backbone


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


@pytest.mark.works_with("torchvision", "`replace` and `tile` of SE in detectors on MobileNetV3, the first three too")
@pytest.mark.parametrize("name", ["fasterrcnn_mobilenet_v3_large_320_fpn", "ssdlite320_mobilenet_v3_large"])
def test_squeeze_and_excitation(name):
    from torchvision.models import detection

    def detector():
        return getattr(detection, name)(weights=None, weights_backbone=None, num_classes=2).eval()

    network = detector()
    assert len(tile(network, count=3)) == 3
    assert len(replace(detector(), "se", with_="sase")) == 8
    with torch.no_grad():
        assert network([torch.rand(3, 64, 64)])[0]["boxes"].shape[1] == 4


@pytest.mark.works_with("torchvision", "`create_feature_extractor` of a network that `fuse` has changed")
def test_features_of_a_fused_network():
    from torchvision.models.feature_extraction import create_feature_extractor

    network = networks.network("sase_resnet20", layers=[1, 1, 1])
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = create_feature_extractor(network, {"layer2": "y"})(x)["y"]
        found = create_feature_extractor(fuse(network), {"layer2": "y"})(x)["y"]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.works_with("torchvision", "RetinaNet and FCOS on a backbone of `create_backbone`: losses, backward, boxes")
@pytest.mark.parametrize("detector", ["RetinaNet", "FCOS"])
def test_other_detectors(detector):
    from torchvision.models import detection

    config = tiny_config(pyramid_width=32, freeze_stages=1, frozen_norms=True)
    backbone = create_backbone(config, echo=lambda line: None)
    network = getattr(detection, detector)(backbone, num_classes=3, min_size=64, max_size=96)
    losses = network.train()(*images_and_targets())
    sum(losses.values()).backward()
    named = dict(network.named_parameters())
    assert all(p.grad is not None for p in named.values() if p.requires_grad)
    assert not named["backbone.body.layer1.0.conv1.weight"].requires_grad
    with torch.no_grad():
        found = network.eval()(images_and_targets()[0])
    assert all(each["boxes"].shape[1] == 4 for each in found)
