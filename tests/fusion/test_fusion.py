"""`fuse` and `unfuse`: the same outputs, what they refuse, and the network from before."""

import copy
from dataclasses import replace
from functools import partial

import pytest
import timm
import torch
from inputs import draw
from norm_states import STATES, in_state
from pairwise import pairwise
from timm.layers import EcaModule, SEModule
from torch import nn

from sase_attn import Genotype, SASEBlock, attach, fuse, kernels, unfuse
from sase_attn.fusion import tails

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

SQUEEZES = [
    {},
    {"channel_squeeze": "gap_skewness", "spatial_squeeze_input": "gap_gmp", "spatial_squeeze_gated": "gap_std"},
    {"channel_squeeze": "gap_skew", "spatial_squeeze_input": "gap_skew", "spatial_squeeze_gated": "gap_gmp"},
    {"channel_squeeze": "gap_std", "spatial_squeeze_input": "l4_mean", "spatial_squeeze_gated": "gap"},
]


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
    with kernels.backend(backend):
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


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("state", STATES)
@torch.no_grad()
def test_norms_in_other_states(state, training):
    """Folded where they have statistics; in training as they are."""
    model = network("sase_resnet20", layers=(1, 1, 1)).double()
    for block in (model.layer1[0], model.layer3[0]):
        in_state(block, state)
    model.train(training)
    x = draw(2, 3, 16, 16, dtype=torch.float64)
    fused = fuse(copy.deepcopy(model), training=training)
    assert distance(fused(x), model(x)) <= 1e-10
    if training:
        for value, expected in zip(fused.buffers(), model.buffers(), strict=True):
            torch.testing.assert_close(value, expected)


@pytest.mark.parametrize("training", [False, True])
@torch.no_grad()
def test_a_factor_behind_attached_attention_stays(training):
    model = network("resnet20_cifar", layers=(1, 1, 1)).train(training)
    attach(model, after="layer1.*.bn2", attn=EcaModule)
    attach(model, after="layer[23].*.bn2", attn=EcaModule, gain=0.5)
    x = draw(2, 3, 16, 16)
    fused = fuse(copy.deepcopy(model), training=training)
    assert distance(fused(x), model(x)) <= 1e-5
    if training:
        model.layer1[0].bn2.scale = fused.layer1[0].bn2.scale = 3.0
        assert distance(fused(x), model(x)) <= 1e-5
        with pytest.raises(ValueError, match="no factor behind it"):
            fuse(model, training=True)


def test_the_tail_is_one_unit(monkeypatch):
    calls = []
    original = SASEBlock.tail
    monkeypatch.setattr(SASEBlock, "tail", lambda self, *a, **k: calls.append(k) or original(self, *a, **k))
    model = fuse(network("sase_resnet20"))
    with torch.no_grad():
        model(draw(1, 3, 32, 32))
    assert len(calls) == 9 and all(call["relu"] and call["overwrite"] for call in calls)


@torch.no_grad()
def test_channel_attention_is_part_of_the_unit():
    model = fuse(network("seresnet18"))
    called = []
    for layer in model.modules():
        if isinstance(layer, SEModule):
            layer.register_forward_hook(lambda *_: called.append(1))
    model(draw(1, 3, 32, 32))
    assert not called
    with kernels.backend("torch"):
        model(draw(1, 3, 32, 32))
    assert len(called) == 8


def test_gradients_pass_through_a_fused_network():
    model = network("sase_resnet20").double()
    x = draw(2, 3, 16, 16, dtype=torch.float64).requires_grad_()
    (expected,) = torch.autograd.grad(model(x).square().sum(), x)
    (found,) = torch.autograd.grad(fuse(model)(x).square().sum(), x)
    assert distance(found, expected) <= 1e-10


def test_a_block_of_two_names_is_fused_under_both_and_comes_back_under_both():
    model = timm.create_model("sase_resnet20", layers=(2, 1, 1), num_classes=3).eval()
    model.layer1[1] = model.layer1[0]
    x = torch.randn(2, 3, 32, 32)
    before, block = model(x), model.layer1[0]
    fuse(model)
    assert model.layer1[0] is model.layer1[1] is not block
    assert (model(x) - before).abs().max() <= 1e-5 * before.abs().max()
    unfuse(model)
    assert model.layer1[0] is model.layer1[1] is block and torch.equal(model(x), before)


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
    model.train()
    with pytest.raises(RuntimeError, match=r"call sase_attn.unfuse\(model\) before training"):
        model(draw(1, 3, 32, 32))
    assert all(module.training for module in unfuse(model).modules())


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
        with kernels.backend(backend):
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

    @pytest.mark.parametrize("norm", [nn.Identity(), nn.Dropout().eval()])
    @pytest.mark.parametrize("attention", [SASEBlock(8), SEModule(8)])
    def test_keeps_the_map_behind_a_layer_that_returns_it(self, attention, norm):
        x, shortcut = draw(3, 8, 5, 4), draw(3, 8, 5, 4, seed=2)
        kept = x.clone()
        with torch.no_grad():
            tails.tail(attention, x, shortcut, relu=True, norm=norm)
        assert torch.equal(x, kept)

    def test_refuses_a_shortcut_of_another_shape(self):
        for shortcut in (draw(3, 8, 5, 1), draw(3, 8, 5, 4).half()):
            with pytest.raises(ValueError, match=r"shortcut must be of the shape and type of the map, \(3, 8, 5, 4\)"):
                SASEBlock(8).tail(draw(3, 8, 5, 4), shortcut)


class TestTraining:
    @pytest.mark.parametrize(
        "name, options",
        [
            ("sase_resnet20", {}),
            ("sase_resnet20", {"drop_block_rate": 0.0}),
            ("attached", {"base": "resnet26"}),
            ("seresnet18", {}),
            ("resnet18", {"block_args": {"attn_layer": partial(SEModule, add_maxpool=True)}}),
            ("resnet18", {"block_args": {"attn_layer": "ese"}}),
            ("ecaresnet26t", {}),
            ("resnet18", {"block_args": {"attn_layer": partial(EcaModule, use_mlp=True)}}),
        ],
    )
    def test_same_outputs_gradients_statistics_and_keys(self, name, options):
        torch.manual_seed(0)
        model = timm.create_model(name, num_classes=10, **options).double()
        for parameter in model.parameters():
            parameter.data.add_(0.1 * torch.randn_like(parameter))
        fused = copy.deepcopy(model)
        assert fuse(fused, training=True) is fused
        x = draw(3, 3, 32, 32, dtype=torch.float64)
        for network in (model, fused):
            network(x).square().sum().backward()
        assert list(model.state_dict()) == list(fused.state_dict())
        for (key, a), (_, b) in zip(fused.state_dict().items(), model.state_dict().items(), strict=True):
            assert (a - b).abs().max() <= 1e-12 * (1 + b.abs().max()), key
        for (key, a), (_, b) in zip(fused.named_parameters(), model.named_parameters(), strict=True):
            assert (a.grad - b.grad).abs().max() <= 1e-9 * (1 + b.grad.abs().max()), key
        with torch.no_grad():
            assert distance(fused.eval()(x), model.eval()(x)) <= 1e-12
        unfuse(fused)
        assert [type(layer) for layer in fused.modules()] == [type(layer) for layer in model.modules()]

    @pytest.mark.parametrize("name, most", [("sase_resnet20", 0.7), ("se_resnet20", 0.9), ("eca_resnet20", 0.9)])
    def test_keeps_what_a_network_without_attention_keeps(self, name, most):
        """And the definition far more; bytes of memory held for the backward pass, parameters apart."""
        x = draw(4, 3, 64, 64)
        attended, plain = timm.create_model(name), timm.create_model("resnet20_cifar")
        with kernels.backend("torch"):
            definition = kept_bytes(attended, x)
        block = kept_bytes(attended, x)
        fused = kept_bytes(fuse(attended, training=True), x)
        assert fused <= 1.1 * kept_bytes(plain, x)
        assert fused < 0.9 * block and fused < most * definition

    @pytest.mark.parametrize("name", ["sase_resnet20", "se_resnet20"])
    def test_the_norm_is_never_called(self, name):
        model = fuse(timm.create_model(name), training=True)
        called = []
        for name, layer in model.named_modules():
            if type(layer) is nn.BatchNorm2d:
                layer.register_forward_hook(lambda *_, name=name: called.append(name))
        model(draw(2, 3, 16, 16))
        assert "layer1.0.bn1" in called and "layer1.0.bn2" not in called
        with kernels.backend("torch"):
            model(draw(2, 3, 16, 16))
        assert "layer1.0.bn2" in called

    def test_refuses_what_it_cannot_fuse(self):
        with pytest.raises(ValueError, match="no residual block of timm's ResNet with attention that joins its tail"):
            fuse(timm.create_model("resnet18"), training=True)
        with pytest.raises(ValueError, match="fused for inference"):
            fuse(fuse(network("sase_resnet20")), training=True)
        model = fuse(network("sase_resnet20"), training=True)
        assert distance(fuse(model)(draw(1, 3, 32, 32)), network("sase_resnet20")(draw(1, 3, 32, 32))) <= 2e-6

    def test_layers_one_after_the_other_where_it_does_not_apply(self):
        model = timm.create_model("sase_resnet20", genotype=str(replace(Genotype.parse("sase"), channel_squeeze="l4")))
        x = draw(2, 3, 16, 16)
        expected = copy.deepcopy(model)(x)
        assert distance(fuse(model, training=True)(x), expected) <= 1e-5


def kept_bytes(model: nn.Module, x: torch.Tensor) -> int:
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor  # alive, so that no other takes its place
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = model(x)
    assert output.requires_grad
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


class TestNormalisedTail:
    @pytest.mark.parametrize(
        "squeezes, dtype, memory_format, signs, training",
        pairwise(
            SQUEEZES,
            [torch.float64, torch.float32, torch.bfloat16],
            [torch.contiguous_format, torch.channels_last],
            ["positive", "mixed"],
            [True, False],
        ),
    )
    def test_is_norm_block_and_addition(self, squeezes, dtype, memory_format, signs, training):
        torch.manual_seed(0)
        acc = torch.float64 if dtype == torch.float64 else torch.float32
        block = SASEBlock(8, replace(Genotype.parse("sase"), **squeezes), gate_init="release").to(acc).train(training)
        norm = nn.BatchNorm2d(8).to(acc).train(training)
        with torch.no_grad():
            for parameter in block.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
            norm.weight.uniform_(0.5, 1.5)
            norm.bias.uniform_(-0.5, 0.5)
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
            if signs == "mixed":
                norm.weight[::2] *= -1
        maps = [draw(5, 8, 7, 3, seed=i, dtype=dtype).contiguous(memory_format=memory_format) for i in range(3)]
        expected = self.step(block, norm, [x.double() for x in maps], "torch")
        found = self.step(block, norm, maps, "auto")
        tolerance = {torch.float64: 1e-11, torch.float32: 2e-5, torch.bfloat16: 5e-3}[dtype]
        scale = expected[1].norm()  # gradients of weights may be small sums of large terms
        for a, b in zip(found, expected, strict=True):
            error = (a.double() - b.double()).norm()
            assert error <= tolerance * (b.double().norm() + scale), (error, b.double().norm())

    @staticmethod
    def step(block: nn.Module, norm: nn.Module, maps: list[torch.Tensor], backend: str) -> list[torch.Tensor]:
        block, norm = copy.deepcopy(block), copy.deepcopy(norm)
        x, shortcut, g = maps
        x, shortcut = (y.detach().requires_grad_() for y in (x, shortcut))
        with kernels.backend(backend):
            if backend == "torch":
                y = torch.relu(block.double()(norm.double()(x)) + shortcut)
            else:
                y = block.tail(x, shortcut, norm=norm)
                assert y.dtype == x.dtype and y.stride() == x.stride()
            leaves = [x, shortcut, *norm.parameters(), *block.parameters()]
            grads = torch.autograd.grad(y, leaves, g)
        return [y.detach(), *grads, norm.running_mean, norm.running_var, norm.num_batches_tracked]

    def test_gradients_of_gradients(self):
        torch.manual_seed(0)
        block = SASEBlock(4, gate_init="release").double().eval()
        norm = nn.BatchNorm2d(4, momentum=0.0).double()
        with torch.no_grad():
            norm.weight.copy_(torch.tensor([1.0, -0.5, 0.7, -1.2]))
            for parameter in block.parameters():
                parameter.add_(0.3 * torch.rand_like(parameter))
        x, shortcut = (draw(2, 4, 3, 2, seed=i, dtype=torch.float64).requires_grad_() for i in range(2))

        def tail(x, shortcut):
            return block.tail(x, shortcut, norm=norm)

        assert torch.autograd.gradcheck(tail, (x, shortcut), fast_mode=True)
        assert torch.autograd.gradgradcheck(tail, (x, shortcut), fast_mode=True)

    def test_moving_averages_and_batches_of_one_value(self):
        norm, own = nn.BatchNorm2d(4, momentum=None), nn.BatchNorm2d(4, momentum=None)
        block = SASEBlock(4)
        for seed in range(3):
            x = draw(2, 4, 3, 3, seed=seed)
            block.tail(x, x, norm=norm)
            own(x)
        for a, b in zip(norm.buffers(), own.buffers(), strict=True):
            torch.testing.assert_close(a, b)
        with pytest.raises(ValueError, match="more than 1 value per channel"):
            block.tail(draw(1, 4, 1, 1), draw(1, 4, 1, 1), norm=norm)
