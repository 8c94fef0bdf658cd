"""Every attention that can be a constant starts so behind any layer; the others say why they cannot."""

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
    "spatial_sase": "it takes the place of a convolution",
    "spatial_sase_literal": "it takes the place of a convolution",
    "ge_theta_minus": "it has no parameters",
}
IDENTITY = {"gct_gated", "constant", "gc", "double_attention"}  # behind any layer
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
    assert attn == "constant" or not close(model(x), plain(x))


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
@pytest.mark.parametrize("host", [nn.BatchNorm2d(16, affine=False), BatchNormAct2d(16, act_layer=nn.SiLU)])
def test_behind_layers_that_cannot_be_scaled(attn, host):
    model = nn.Sequential(copy.deepcopy(host)).eval()
    x = torch.randn(2, 16, 9, 9)
    before = model(x)
    attach(model, after="0", attn=attn, preserve_output=True)
    assert close(model(x), before)


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


class Shared(nn.Module):
    """A norm in two places under two names, between convolutions."""

    def __init__(self, norm=None):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3)
        self.norm1 = self.norm2 = nn.BatchNorm2d(8) if norm is None else norm
        self.norm1.weight.data.uniform_(0.5, 1.5)

    def forward(self, x):
        return self.norm2(self.conv2(torch.relu(self.norm1(self.conv1(x)))))


@pytest.mark.parametrize("patterns", ["norm*", ["norm2", "norm1"]])
def test_a_module_of_two_names_gets_one_attention_in_both_places(patterns):
    plain = Shared().eval()
    model, x = copy.deepcopy(plain), torch.randn(2, 3, 9, 9)
    report = attach(model, after=patterns, attn="sase", preserve_output=True)
    assert [(r.name, r.gain) for r in report] == [("norm1", 1.25), ("norm2", 1.25)]
    assert model.norm1 is model.norm2 and close(model(x), plain(x))
    again = copy.deepcopy(plain)
    attach(again, after=patterns, attn="sase")
    again.load_state_dict(warm_start(plain.state_dict(), again))
    assert again.norm1 is again.norm2 and close(again(x), plain(x))


def test_weights_that_work_elsewhere_too_stay_what_they_are():
    tied = nn.Sequential(nn.BatchNorm2d(3), nn.BatchNorm2d(3)).eval()
    tied[1].weight = tied[0].weight
    for plain, after in [(Shared().eval(), "norm1"), (tied, "0"), (tied, "[01]")]:
        model, x = copy.deepcopy(plain), torch.randn(2, 3, 9, 9)
        attach(model, after=after, attn="sase", preserve_output=True)
        assert close(model(x), plain(x))
        kept = {key.replace(".host.", "."): value for key, value in model.state_dict().items() if ".attn." not in key}
        assert all(torch.equal(kept[key], value) for key, value in plain.state_dict().items())


def test_a_shared_block_is_one_place():
    model = nn.ModuleDict({"a": nn.Sequential(nn.BatchNorm2d(3))})
    model["b"] = model["a"]
    x = torch.randn(2, 3, 4, 4)
    plain = copy.deepcopy(model).eval()["a"](x)
    attach(model.eval(), after="a.0", attn="se", preserve_output=True)
    assert close(model["a"](x), plain) and close(model["b"](x), plain)


@pytest.mark.parametrize("asked", ["published", 0.7])
def test_another_gain_than_the_one_that_preserves_the_output(plain, asked):
    words = f"gain: wanted 0.5 divided out of SE, which preserves the output, got {asked!r}; leave gain out"
    model = copy.deepcopy(plain)
    with pytest.raises(ValueError, match=words):
        attach(model, after="layer*.*.bn2", attn="se", preserve_output=True, gain=asked)
    assert list(model.state_dict()) == list(plain.state_dict())
    args = dict(base="resnet18", after="layer*.*.bn2", attn="se", gain=asked, **SMALL)
    source = dict(pretrained=True, pretrained_cfg_overlay=dict(state_dict=plain.state_dict(), num_classes=5))
    with pytest.raises(ValueError, match=words):
        timm.create_model("attached", **args, **source)
    with pytest.raises(ValueError, match=words.replace("SE,", "SASEBlock,").replace("0.5", "1.25")):
        timm.create_model("sase_resnet18", gain=asked, **SMALL, **source)
    for agreeing in ("unit", 0.5):
        report = attach(copy.deepcopy(plain), after="layer*.*.bn2", attn="se", preserve_output=True, gain=agreeing)
        assert {r.gain for r in report} == {0.5}
