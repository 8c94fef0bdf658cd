"""The block in timm's networks, through each way in which they take an attention."""

from functools import partial

import pytest
import timm
import torch
from inputs import draw

from sase_attn import SASEBlock

pytestmark = pytest.mark.usefixtures("one_thread")

HOSTS = {
    "resnet10t": {"block_args": {"attn_layer": SASEBlock}},
    "test_byobnet": {"attn_layer": SASEBlock},  # the family of resnet33ts
    "resnet33ts": {"attn_layer": partial(SASEBlock, genotype="sase_paper"), "device": "meta"},
    "test_nfnet": {"attn_layer": SASEBlock},  # the family of nf_resnet50
    "nf_resnet26": {"attn_layer": SASEBlock, "device": "meta"},
    "efficientnet_b0": {"se_layer": SASEBlock},
}


@pytest.mark.parametrize("name", HOSTS)
def test_forward_and_backward(name):
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=4, **HOSTS[name])
    blocks = [module for module in model.modules() if isinstance(module, SASEBlock)]
    assert len(blocks) >= 4
    x = draw(2, 3, 64, 64)
    if HOSTS[name].get("device") == "meta":  # too large to be run twice in a test
        assert model(x.to("meta")).shape == (2, 4)
        return
    for value in model.parameters():  # among them the zeros that close residual branches at first
        value.data.add_(0.02 * draw(*value.shape))
    y = model(x)
    assert y.shape == (2, 4)
    y.square().sum().backward()
    for key, value in model.named_parameters():
        assert value.grad is not None, f"no gradient for {key}"
        assert value.grad.isfinite().all(), f"gradient of {key} is not finite"
    assert all(block.channel_excite.fc2.weight.grad.any() for block in blocks)
    assert any(block.channel_gate.alpha.grad.any() for block in blocks)


def test_efficientnet_passes_its_own_width():
    """It gives every attention the ratio to the block's input channels, and its activation, which has no effect."""
    model = timm.create_model("efficientnet_b0", se_layer=SASEBlock, device="meta")
    theirs = timm.create_model("efficientnet_b0", device="meta")
    ours = {name: module for name, module in model.named_modules() if isinstance(module, SASEBlock)}
    assert len(ours) == 16
    for name, block in ours.items():
        reference = theirs.get_submodule(name).conv_reduce.weight.shape
        assert block.channel_excite.fc1.weight.shape == reference, name


def test_zero_initialised_residual_branches_give_finite_gradients():
    """timm's default zeroes the last norm of every branch, so that the block sees nothing but zeros at first."""
    model = timm.create_model("resnet10t", num_classes=4, zero_init_last=True, block_args={"attn_layer": SASEBlock})
    seen = []
    for module in model.modules():
        if isinstance(module, SASEBlock):
            module.register_forward_pre_hook(lambda module, args: seen.append(args[0].any().item()))
    model(draw(2, 3, 32, 32)).square().sum().backward()
    assert seen == [False] * 4
    assert all(value.grad.isfinite().all() for value in model.parameters())
