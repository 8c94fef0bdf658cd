"""`init_weights`: a network that was built on the meta device starts as its constructor would have made it."""

from dataclasses import replace
from functools import partial

import pytest
import timm
import torch
from even_draws import even_draws
from inputs import draw
from module_cases import CHANNELS, MODULES, NETWORKS, attached
from torch import nn

from sase_attn import SASEBlock, attach, genotypes, init_weights
from sase_attn.ops import OP_SETS, Excite, Op
from sase_attn.spatially_adaptive import SkipLayerExcitation
from sase_attn.spatially_adaptive.synthesis.generator import Generator


def on_meta(make):
    with torch.device("meta"):
        return make()


def memory(model):
    model.to_empty(device="cpu")
    for buffer in model.buffers():
        if not buffer.is_floating_point():
            buffer.fill_(77)
    return model


def tensors(model):
    return dict([*model.named_parameters(), *model.named_buffers()])


def check(model, wanted, **options):
    modules = dict(model.named_modules())
    init_weights(model, **options)
    assert dict(model.named_modules()) == modules
    found, wanted = tensors(model), tensors(wanted)
    assert found.keys() == wanted.keys()
    exact = [name for name in wanted if not name.endswith(("._u", "._v"))]
    assert not {name for name in exact if not torch.equal(found[name], wanted[name])}


@pytest.mark.parametrize("label", ["gc", "double_attention", "att_darts mixed", "block as released", *NETWORKS])
def test_starts_as_built(label):
    make = (MODULES | NETWORKS)[label]
    with even_draws():
        check(memory(on_meta(make)), make())


@pytest.mark.parametrize("model", ["sase_resnet20", "se_resnet20"])
def test_the_networks_own_options(model):
    make = partial(timm.create_model, model, layers=[1, 1, 1], zero_init_last=False)
    with even_draws():
        wanted = make()
        assert wanted.layer1[0].bn2.weight.all()
        check(memory(on_meta(make)), wanted, zero_init_last=False)


@pytest.mark.parametrize(
    "make", [partial(Generator, 64, 4, 8), partial(SkipLayerExcitation, 16, 8, spectral_norm=True)]
)
def test_spectral_norms_start_with_an_estimate(make):
    with even_draws():
        wanted, model = make(), memory(on_meta(make))
        check(model, wanted)
    layers = [(a, b) for a, b in zip(model.eval().modules(), wanted.eval().modules(), strict=True) if is_normalised(a)]
    assert len(layers) >= 2
    for layer, other in layers:
        torch.testing.assert_close(layer.weight, other.weight, rtol=0.02, atol=1e-6)


@pytest.mark.parametrize("wrapped", [nn.Sequential, nn.DataParallel])
def test_a_network_in_another_module_starts_as_built(wrapped):
    def make():
        model = timm.create_model("resnet20_cifar", layers=[1, 1, 1])
        return wrapped(attach_to(model))

    with even_draws():
        wanted = make()
        assert not wanted.get_parameter(next(n for n in tensors(wanted) if n.endswith("bn2.host.weight"))).any()
        check(memory(on_meta(make)), wanted)
        with pytest.raises(AssertionError):
            check(memory(on_meta(make)), wanted, zero_init_last=False)


def attach_to(model):
    attach(model, after="layer*.*.bn2", attn="se", preserve_output=True)
    return model


def is_normalised(layer):
    return torch.nn.utils.parametrize.is_parametrized(layer, "weight")


@pytest.mark.parametrize("attention", ["sase", "se"])
def test_an_output_that_was_kept_is_kept_with_the_weights_that_are_loaded(attention):
    plain = timm.create_model("resnet20_cifar", layers=[1, 1, 1]).eval()
    nn.init.uniform_(plain.layer3[0].bn2.weight)
    model = memory(on_meta(partial(attached, attention, preserve=True))).eval()
    init_weights(model)
    weights = {name.replace("bn2.", "bn2.host."): value for name, value in plain.state_dict().items()}
    assert not model.load_state_dict(weights, strict=False).unexpected_keys
    x = draw(2, 3, 16, 16)
    torch.testing.assert_close(model(x), plain(x))


class Owner(Op):
    """An operation of a user who knows nothing of resets."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.table = nn.Parameter(torch.ones(1))
        self.register_buffer("places", torch.arange(3))

    def forward(self, x):
        return x[:, :, :1, :1] * self.table


class Linear(Excite):
    def build(self, size, rd_ratio, **place):
        self.layer = nn.Linear(self.channels, self.channels, **place)

    def forward(self, z):
        return self.layer(z.flatten(1))[:, :, None, None]

    def zero_gate(self):
        for parameter in self.layer.parameters():
            nn.init.zeros_(parameter)
        return 0.0


def test_operations_of_a_user(monkeypatch):
    monkeypatch.setitem(OP_SETS["channel_excite"], "linear", Linear)
    monkeypatch.setitem(OP_SETS["channel_squeeze"], "owner", Owner)
    genotype = genotypes["sase"]
    block = memory(on_meta(partial(SASEBlock, CHANNELS, replace(genotype, channel_excite="linear"))))
    init_weights(block)
    x = draw(2, CHANNELS, 4, 4)
    assert torch.allclose(block(x), 1.25 * x)
    block = SASEBlock(CHANNELS, replace(genotype, channel_squeeze="owner"))
    words = r"wanted a reset_parameters\(\) of Owner that fills .* to channel_squeeze.table, channel_squeeze.places$"
    with pytest.raises(ValueError, match=words):
        init_weights(block)


def test_errors():
    with pytest.raises(
        ValueError, match="wanted a network with memory, got conv1.weight on the meta device; call to_e"
    ):
        init_weights(on_meta(partial(timm.create_model, "sase_resnet20", layers=[1, 1, 1])))
    with pytest.raises(TypeError, match=r"SASEBlock has no init_weights\(\) that takes zero_init_last"):
        init_weights(SASEBlock(8), zero_init_last=False)
