"""`fuse` on a detector: its backbone's blocks become units, and detections, losses and gradients stay."""

import copy

import pytest
import torch
from networks import moved
from tiny_detector import images_and_targets, tiny_config

from sase_attn import fuse, unfuse
from sase_attn.detection import create_detector, save_detector
from sase_attn.fusion.fused import Fused


def detector(**fields):
    model = create_detector(tiny_config(score_threshold=0.0, **fields), 2, echo=lambda line: None)
    moved(model.backbone.body)
    return model


@pytest.mark.parametrize("backbone", ["resnet18", "seresnet18", "sase_resnet18"])
def test_inference(backbone):
    model = detector(backbone=backbone).eval()
    images, _ = images_and_targets()
    with torch.no_grad():
        wanted = model(images)
        found = fuse(model)(images)
        again = unfuse(model)(images)
    assert not any(isinstance(module, Fused) for module in model.modules())
    for one, other, last in zip(wanted, found, again, strict=True):
        for name, value in one.items():
            torch.testing.assert_close(other[name], value, atol=1e-3, rtol=1e-4)
            assert torch.equal(last[name], value)


def test_a_fused_detector_is_not_saved(tmp_path):
    model = fuse(detector(backbone="resnet18").eval())
    with pytest.raises(ValueError, match="fused for inference: call sase_attn.unfuse"):
        save_detector(model, tmp_path / "a.safetensors", tiny_config(backbone="resnet18"), ["a", "b"])


@pytest.mark.parametrize("frozen", [False, True])
def test_training(frozen):
    model = detector(frozen_norms=frozen, freeze_stages=1 if frozen else -1)
    fused = fuse(copy.deepcopy(model), training=True)
    images, targets = images_and_targets()
    results = []
    for each in (model, fused):
        each.train()
        torch.manual_seed(0)
        losses = each([image.clone() for image in images], copy.deepcopy(targets))
        sum(losses.values()).backward()
        results.append(losses)
    for name, value in results[0].items():
        torch.testing.assert_close(results[1][name], value, atol=1e-5, rtol=1e-4)
    pairs = zip(model.named_parameters(), fused.named_parameters(), strict=True)
    for (name, one), (other_name, other) in pairs:
        assert name == other_name and (one.grad is None) == (other.grad is None), name
        if one.grad is not None:
            torch.testing.assert_close(other.grad, one.grad, atol=1e-4, rtol=1e-3, msg=name)
    norms = [module for name, module in fused.backbone.body.named_modules() if "bn" in name.rpartition(".")[2]]
    assert all(norm.training == (not frozen) for norm in norms)
    for (name, one), other in zip(model.named_buffers(), fused.buffers(), strict=True):
        torch.testing.assert_close(other, one, msg=name)
