"""Every attention that can be a constant starts so behind any layer that absorbs it; the others say why they cannot."""

import copy

import pytest
import timm
import torch
from networks import network
from timm.layers import BatchNormAct2d, SEModule
from torch import nn

from sase_attn import attach
from sase_attn.attentions.registry import ATTENTIONS
from sase_attn.weights import warm_start

pytestmark = pytest.mark.usefixtures("one_thread")

NEVER = {
    "gct_gaussian": "its gate is a Gaussian of the channels' means",
    "glam": "its global branch mixes channels and positions by a softmax",
    "psa": "it takes the place of a convolution",
    "ge_theta_minus": "it has no parameters",
}
IDENTITY = {"gct_gated", "gc", "double_attention"}  # behind any layer
CONSTANT = [name for name in ATTENTIONS if name not in NEVER]
SMALL = {"layers": [1, 1, 1, 1], "num_classes": 5}


@pytest.fixture(scope="module")
def plain():
    return network("resnet18", **SMALL)


def close(a, b):
    return (a - b).abs().max() <= 1e-5 * b.abs().max()


@pytest.mark.parametrize("attn", CONSTANT)
def test_behind_norms_at_two_sizes(plain, attn):
    model = copy.deepcopy(plain)
    report = attach(model, after="layer*.*.bn2", attn=attn, preserve_output=True)
    assert len(report) == 4 and all((r.gain == 1) == (attn in IDENTITY) for r in report)
    for size in [(64, 64), (96, 56)]:
        x = torch.randn(2, 3, *size)
        assert close(model(x), plain(x))
    with torch.no_grad():  # a constant, not an attention that is never asked
        for r in report:
            for parameter in model.get_submodule(f"{r.name}.attn").parameters():
                parameter.add_(torch.randn_like(parameter) * 0.3)
    assert not close(model(x), plain(x))


@pytest.mark.parametrize("attn", CONSTANT)
@pytest.mark.parametrize("host", [nn.Conv2d(3, 16, 3), nn.Conv2d(3, 16, 3, bias=False), BatchNormAct2d(3)])
def test_behind_other_layers(host, attn):
    if isinstance(host, BatchNormAct2d):
        host = BatchNormAct2d(16)
        host.weight.data.uniform_(-1, 1)
        host.bias.data.uniform_(-1, 1)
    model = nn.Sequential(copy.deepcopy(host)).eval()
    x = torch.randn(2, 16 if isinstance(host, BatchNormAct2d) else 3, 20, 20)
    before = model(x)
    attach(model, after="0", attn=attn, preserve_output=True)
    assert close(model(x), before)


@pytest.mark.parametrize("attn", CONSTANT)
def test_behind_layers_that_absorb_nothing(attn):
    model = nn.Sequential(nn.BatchNorm2d(16, affine=False)).eval()
    x = torch.randn(2, 16, 9, 9)
    before = model(x)
    if attn in IDENTITY:
        attach(model, after="0", attn=attn, preserve_output=True)
        assert close(model(x), before)
    else:
        with pytest.raises(
            ValueError, match=r"0 \(BatchNorm2d\) cannot absorb a gain of [\d.]+: preserve_output needs"
        ):
            attach(model, after="0", attn=attn, preserve_output=True)
        assert isinstance(model[0], nn.BatchNorm2d)


@pytest.mark.parametrize("attn", NEVER)
def test_why_some_cannot(plain, attn):
    model = copy.deepcopy(plain)
    why = f"{ATTENTIONS[attn].__name__} cannot start as a constant: {NEVER[attn]}"
    with pytest.raises(TypeError, match=why):
        attach(model, after="layer*.*.bn2", attn=attn, preserve_output=True)
    assert list(model.state_dict()) == list(plain.state_dict())
    assert all(torch.equal(value, plain.state_dict()[key]) for key, value in model.state_dict().items())
    assert len(attach(model, after="layer*.*.bn2", attn=attn)) == 4
    with pytest.raises(TypeError, match=why):
        warm_start(plain.state_dict(), model)


def test_attention_of_others_cannot(plain):
    with pytest.raises(TypeError, match=r"SEModule cannot start as a constant: it has no zero_gates\(\) method"):
        attach(copy.deepcopy(plain), after="layer*.*.bn2", attn=SEModule, preserve_output=True)


@pytest.mark.parametrize("attn", CONSTANT)
@pytest.mark.parametrize("slot", ["attached", "se"])
def test_warm_start(plain, attn, slot):
    torch.manual_seed(0)
    if slot == "se":
        model = timm.create_model("resnet18", block_args={"attn_layer": ATTENTIONS[attn]}, **SMALL)
    else:
        model = timm.create_model("attached", base="resnet18", after="layer*.*.bn2", attn=attn, **SMALL)
    model.load_state_dict(warm_start(plain.state_dict(), model))
    x = torch.randn(2, 3, 64, 64)
    assert close(model.eval()(x), plain(x))
    own = model.state_dict()
    again = warm_start(own, model)
    assert all(torch.equal(again[key], own[key]) for key in own) and again.keys() == own.keys()


def test_warm_start_without_preserving_the_output(plain):
    model = timm.create_model("attached", base="resnet18", after="layer*.*.bn2", attn="ge_theta_minus", **SMALL)
    weights = warm_start(plain.state_dict(), model, preserve_output=False)
    model.load_state_dict(weights)
    assert torch.equal(weights["layer1.0.bn2.host.weight"], plain.layer1[0].bn2.weight)
    assert warm_start(weights, model).keys() == weights.keys()  # recognised as its own, though the attention has none
