"""Segmentation networks of smp."""

import pytest
import torch

import sase_attn  # noqa: F401  registers the models with timm


@pytest.mark.works_with("segmentation-models-pytorch", "U-Net on the encoder `tu-sase_resnet18`: forward, backward")
def test_encoder():
    import segmentation_models_pytorch as smp

    sizes = {"encoder_depth": 3, "decoder_channels": (16, 8, 8)}
    network = smp.Unet("tu-sase_resnet18", encoder_weights=None, classes=3, **sizes)
    masks = network(torch.randn(2, 3, 64, 64))
    assert masks.shape == (2, 3, 64, 64)
    smp.losses.DiceLoss("multiclass")(masks, torch.randint(3, (2, 64, 64))).backward()
    gates = [p for name, p in network.named_parameters() if ".se." in name or ".attn." in name]
    assert gates and all(p.grad is not None and p.grad.isfinite().all() for p in gates)
