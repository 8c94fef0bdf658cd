"""Segmentation networks of smp."""

import pytest
import torch
from tiny_detector import tiny_config

from sase_attn import attach, replace, tile
from sase_attn.detection import create_backbone


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


@pytest.mark.works_with(
    "segmentation-models-pytorch",
    "DeepLabV3+ on the encoder `tu-sase_resnet18`, weights of ours: forward, backward",
)
def test_dilated_encoder():
    import segmentation_models_pytorch as smp

    network = smp.DeepLabV3Plus("tu-sase_resnet18", encoder_weights=None, classes=3, decoder_channels=16)
    backbone = create_backbone(tiny_config(backbone="sase_resnet18", backbone_kwargs={}))
    network.encoder.model.load_state_dict(backbone.body.state_dict())
    images = torch.randn(2, 3, 64, 96)
    assert network.encoder(images)[-1].shape[-2:] == (4, 6)
    masks = network(images)
    assert masks.shape == (2, 3, 64, 96)
    masks.square().mean().backward()
    gates = [p for name, p in network.named_parameters() if ".se." in name]
    assert gates and all(p.grad is not None and p.grad.isfinite().all() for p in gates)


def unet(encoder):
    import segmentation_models_pytorch as smp

    sizes = {"encoder_depth": 3, "decoder_channels": (32, 32, 16), "decoder_attention_type": "scse"}
    return smp.Unet(encoder, encoder_weights=None, classes=3, **sizes).eval()


@pytest.mark.works_with(
    "segmentation-models-pytorch", "`replace` of SCSE in a U-Net's decoder, and of SE in its encoders"
)
@pytest.mark.parametrize("encoder, blocks", [("se_resnet50", 16), ("tu-efficientnet_b0", 16), ("tu-seresnet18", 4)])
def test_replace(encoder, blocks):
    network, x = unet(encoder), torch.randn(1, 3, 64, 64)
    with pytest.warns(UserWarning, match="no forward pass reaches them: decoder.blocks.2.attention1.attention"):
        assert len(replace(network, "scse", with_="sase")) == 5
    assert len(replace(network, "se", with_="sase")) == blocks
    assert network(x).shape == (1, 3, 64, 64)


@pytest.mark.works_with(
    "segmentation-models-pytorch", "`tile` of SE in encoders: larger tiles than maps change nothing"
)
@pytest.mark.parametrize("encoder, blocks", [("se_resnet50", 16), ("tu-efficientnet_b0", 16), ("mobileone_s4", None)])
def test_tile(encoder, blocks):
    network, x = unet(encoder), torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = network(x)
        places = tile(network, rows=99)
        assert len(places) == blocks if blocks else places
        torch.testing.assert_close(network(x), expected)


@pytest.mark.works_with(
    "segmentation-models-pytorch", "`attach` in `efficientnet-b0`, whose SE is no module: outputs stay"
)
def test_attach():
    network, x = unet("efficientnet-b0"), torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = network(x)
        assert len(attach(network, after="encoder._blocks.*._bn2", preserve_output=True)) == 16
        torch.testing.assert_close(network(x), expected, rtol=1e-3, atol=1e-3)
    with pytest.raises(ValueError, match="16 MBConvBlock whose own forward computes it"):
        replace(network, "se", with_="sase")
