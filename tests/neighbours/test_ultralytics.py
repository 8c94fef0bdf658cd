"""Detectors of Ultralytics."""

import pytest
import torch

from sase_attn import SASEBlock, attach, replace

IMAGES = 64


def detector():
    from ultralytics.nn.tasks import DetectionModel

    torch.manual_seed(0)
    return DetectionModel("yolov8n.yaml", nc=3, verbose=False)


@pytest.mark.works_with(
    "ultralytics", "`attach` behind stages of YOLOv8: loss, backward; same outputs, also by their `fuse`"
)
def test_attach():
    network = detector().eval()
    x = torch.rand(1, 3, IMAGES, IMAGES)
    with torch.no_grad():
        before = network(x)[0]
        assert len(attach(network, after=["model.2", "model.4.cv2"], preserve_output=True)) == 2
        torch.testing.assert_close(network(x)[0], before, rtol=1e-3, atol=1e-3)
        network.fuse(verbose=False)
        torch.testing.assert_close(network(x)[0], before, rtol=1e-3, atol=1e-3)
        assert sum(isinstance(module, SASEBlock) for module in network.modules()) == 2
    network = detector().train()
    attach(network, after="model.2")
    from ultralytics.cfg import get_cfg

    network.args = get_cfg()
    boxes = {"cls": torch.zeros(1, 1), "bboxes": torch.tensor([[0.5, 0.5, 0.4, 0.4]]), "batch_idx": torch.zeros(1)}
    loss, _ = network({"img": torch.rand(1, 3, IMAGES, IMAGES), **boxes})
    loss.sum().backward()
    gates = [p for name, p in network.named_parameters() if ".attn." in name]
    assert gates and all(p.grad is not None for p in gates)


@pytest.mark.works_with(
    "ultralytics", "`replace` of 3×3 convolutions of YOLOv8; their `fuse` of a norm with attention refuses"
)
def test_replace():
    network = detector()
    only = "model.2.m.0.cv2.conv"
    assert [place.channels for place in replace(network, "conv3x3", with_="spatial_sase", only=only)] == [16]
    network.train()(torch.rand(2, 3, IMAGES, IMAGES))
    network = detector().eval()
    attach(network, after="model.2.cv2.bn")
    with pytest.raises(AttributeError, match="attach it behind the module that holds both"):
        network.fuse(verbose=False)
