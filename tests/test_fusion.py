"""`fuse` and `unfuse`: the same outputs, what they refuse, and the network from before."""

import copy
from dataclasses import replace

import pytest
import timm
import torch
from inputs import draw
from torch import nn

from sase_attn import Genotype, SASEBlock, fuse, kernels, unfuse

pytestmark = pytest.mark.usefixtures("one_thread")
NETWORKS = {
    "sase_resnet20": {},
    "sase_resnet18": {},
    "sase_resnet50d": {},
    "seresnet18": {},
    "ecaresnet26t": {},
    "cbam_resnet20": {},
    "resnet20_cifar": {},
    "attached": {"base": "resnet26"},
    "resnet18": {"act_layer": nn.SiLU},
    "resnetblur18": {},
}


def network(name: str, **options: object) -> nn.Module:
    """With batch norms that have seen data, in eval mode."""
    torch.manual_seed(0)
    model = timm.create_model(name, **options).eval()
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.uniform_(-0.3, 0.3)
            layer.running_var.uniform_(0.5, 2)
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.uniform_(layer.bias, -0.3, 0.3)
    return model


def distance(actual: torch.Tensor, expected: torch.Tensor) -> float:
    return ((actual - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize("backend", ["auto", "torch"])
@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_same_outputs_and_back_to_the_same_network(name, backend):
    model = network(name, **NETWORKS[name])
    before = {key: value.clone() for key, value in model.state_dict().items()}
    x = draw(2, 3, 64, 64)
    kept = x.clone()
    expected = model(x)
    with kernels.use(backend):
        assert fuse(model) is model
        assert distance(model(x), expected) <= 2e-6
        assert distance(model(x.contiguous(memory_format=torch.channels_last)), expected) <= 2e-6
    assert torch.equal(x, kept)
    assert not [layer for layer in model.modules() if type(layer) is nn.BatchNorm2d]
    assert fuse(model) is model and unfuse(model) is model
    assert torch.equal(model(x), expected)
    after = model.state_dict()
    assert list(after) == list(before) and all(torch.equal(after[key], before[key]) for key in before)
    model.train()


def test_the_tail_is_one_unit(monkeypatch):
    calls = []
    original = SASEBlock.tail
    monkeypatch.setattr(SASEBlock, "tail", lambda self, *a, **k: calls.append(k) or original(self, *a, **k))
    model = fuse(network("sase_resnet20"))
    with torch.no_grad():
        model(draw(1, 3, 32, 32))
    assert len(calls) == 9 and all(call["relu"] and call["overwrite"] for call in calls)


def test_gradients_pass_through_a_fused_network():
    model = network("sase_resnet20").double()
    x = draw(2, 3, 16, 16, dtype=torch.float64).requires_grad_()
    (expected,) = torch.autograd.grad(model(x).square().sum(), x)
    (found,) = torch.autograd.grad(fuse(model)(x).square().sum(), x)
    assert distance(found, expected) <= 1e-10


def test_features_and_copies():
    model = network("sase_resnet18", features_only=True)
    x = draw(1, 3, 64, 64)
    with torch.no_grad():
        expected = model(x)
        for found in (fuse(copy.deepcopy(model))(x), copy.deepcopy(fuse(model))(x)):
            assert all(distance(y, z) <= 2e-6 for y, z in zip(found, expected, strict=True))


def test_goes_back_to_where_the_network_is_now():
    model = fuse(network("sase_resnet20")).double()
    assert {p.dtype for p in unfuse(model).parameters()} == {torch.float64}


@pytest.mark.filterwarnings("error")
def test_compiles_without_graph_breaks():
    model = network("sase_resnet20")
    x = draw(2, 3, 32, 32)
    with torch.no_grad():
        expected = model(x)
        compiled = torch.compile(fuse(model), backend="aot_eager", fullgraph=True)
        assert distance(compiled(x), expected) <= 2e-6


def test_refuses_what_it_cannot_fuse():
    with pytest.raises(ValueError, match="call model.eval\\(\\) first"):
        fuse(timm.create_model("sase_resnet20"))
    with pytest.raises(ValueError, match="Sequential has no residual block of timm's ResNet"):
        fuse(nn.Sequential(nn.Conv2d(3, 3, 1)).eval())
    model = fuse(network("sase_resnet20"))
    model.eval()
    with pytest.raises(RuntimeError, match=r"call sase_attn.unfuse\(model\) before training"):
        model.train()


class TestTail:
    @pytest.mark.parametrize("relu", [True, False])
    @pytest.mark.parametrize("squeezes", [{}, {"channel_squeeze": "gsop", "spatial_squeeze_gated": "l2norm"}])
    @pytest.mark.parametrize("backend", ["auto", "torch"])
    def test_is_the_block_and_the_addition(self, backend, squeezes, relu):
        block = SASEBlock(8, replace(Genotype.parse("sase"), **squeezes), gate_init="release").double()
        x, shortcut = (draw(3, 8, 5, 4, seed=seed, dtype=torch.float64).requires_grad_() for seed in (1, 2))
        expected = block(x) + shortcut
        expected = torch.relu(expected) if relu else expected
        g = draw(*x.shape, seed=3, dtype=torch.float64)
        wanted = torch.autograd.grad(expected, [x, shortcut, *block.parameters()], g, allow_unused=True)
        with kernels.use(backend):
            y = block.tail(x, shortcut, relu)
            found = torch.autograd.grad(y, [x, shortcut, *block.parameters()], g, allow_unused=True)
        assert distance(y, expected) <= 1e-12
        for a, b in zip(found, wanted, strict=True):
            assert (a is None) == (b is None)
            assert a is None or (a - b).abs().max() <= 1e-11 * (1 + b.abs().max())

    def test_overwrites_only_where_asked_and_no_gradient_is_recorded(self):
        block = SASEBlock(8)
        x, shortcut = draw(3, 8, 5, 4), draw(3, 8, 5, 4, seed=2)
        kept = x.clone()
        block.tail(x, shortcut, overwrite=True)
        with torch.no_grad():
            expected = block.tail(x, shortcut)
            assert torch.equal(x, kept)
            y = block.tail(x, shortcut, overwrite=True)
        assert torch.equal(y, expected) and y.data_ptr() == x.data_ptr()

    def test_refuses_a_shortcut_of_another_shape(self):
        for shortcut in (draw(3, 8, 5, 1), draw(3, 8, 5, 4).half()):
            with pytest.raises(ValueError, match=r"shortcut must be of the shape and type of the map, \(3, 8, 5, 4\)"):
                SASEBlock(8).tail(draw(3, 8, 5, 4), shortcut)
