"""A module of one's own is asked for nothing but the channels, and goes where its host is."""

from functools import partial

import pytest
import torch
from torch import nn

from sase_attn import (
    Genotype,
    SASEBlock,
    attach,
    create_attention,
    create_op,
    genotypes,
    register_attention,
    register_op,
    replace,
)
from sase_attn.attentions import attention_factory
from sase_attn.attentions.registry import ATTENTIONS
from sase_attn.attentions.se import SE
from sase_attn.ops import OP_SETS

HALF = torch.bfloat16


class OnlyChannels(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels, 1, 1))
        self.register_buffer("count", torch.zeros(1, dtype=torch.int64))

    def forward(self, x):
        return x * self.weight


class OnlyDevice(OnlyChannels):
    def __init__(self, channels, *, device=None):
        super().__init__(channels)
        self.to(device)
        self.got = device


class PassesOn(nn.Module):
    """Its base takes no keywords, as `nn.Module` does not."""

    def __init__(self, channels, **kwargs):
        super().__init__(**kwargs)
        self.weight = nn.Parameter(torch.ones(channels, 1, 1))


def function(channels):
    return OnlyChannels(channels)


MAKERS = [
    OnlyChannels,
    OnlyDevice,
    PassesOn,
    function,
    lambda channels, **_: OnlyChannels(channels),
    partial(SE, rd_ratio=0.5),
]


@pytest.mark.parametrize("make", MAKERS)
def test_attach_and_replace(make):
    model = nn.Sequential(nn.Conv2d(3, 8, 1), SE(8)).to("meta", HALF)
    attach(model, after="0", attn=make)
    replace(model, "se", with_=make, only="1", keep_weights=False)
    for module in (model[0].attn, model[1]):
        tensors = [*module.parameters(), *module.buffers()]
        assert all(tensor.is_meta for tensor in tensors)
        assert {tensor.dtype for tensor in tensors} <= {HALF, torch.int64}
    if make is OnlyDevice:
        assert model[0].attn.got == torch.device("meta")


def test_a_host_without_parameters_has_a_place_too():
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8, affine=False)).double()
    attach(model, after="1", attn=OnlyChannels)
    assert model[1].attn.weight.dtype == torch.float64
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8, affine=False, track_running_stats=False)).double()
    attach(model, after="1", attn="se")
    assert model[1].attn.fc1.weight.dtype == torch.float64


@pytest.fixture
def names():
    """What a test registers goes with it."""
    before = dict(ATTENTIONS), {name: dict(ops) for name, ops in OP_SETS.items()}
    yield
    ATTENTIONS.clear()
    ATTENTIONS.update(before[0])
    for name, ops in OP_SETS.items():
        ops.clear()
        ops.update(before[1][name])


@pytest.mark.parametrize("attention", [OnlyChannels, PassesOn])
def test_registered_attention(attention, names):
    register_attention("mine", attention)
    module = create_attention("mine", 8, device="meta", dtype=HALF)
    assert module.weight.is_meta and module.weight.dtype == HALF
    model = nn.Sequential(nn.Conv2d(3, 8, 1)).double()
    attach(model, after="0", attn="mine")
    assert model[0].attn.weight.dtype == torch.float64


def test_registered_operation(names):
    class Weighted(nn.Module):
        def __init__(self, channels, *, size=None, rd_ratio=1 / 16):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(channels, 1, 1))

        def forward(self, x):
            return (x * self.weight).mean(1, keepdim=True)

    register_op("spatial_squeeze", "weighted", Weighted)
    op = create_op("spatial_squeeze", "weighted", 8, device="meta", dtype=HALF)
    assert op.weight.is_meta and op.weight.dtype == HALF
    genotype = Genotype.parse(
        str(genotypes["sase"]).replace("spatial_squeeze_input:gap", "spatial_squeeze_input:weighted")
    )
    block = SASEBlock(8, genotype, dtype=torch.float64)
    assert {parameter.dtype for parameter in block.parameters()} == {torch.float64}
    assert block(torch.ones(1, 8, 2, 2, dtype=torch.float64)).dtype == torch.float64


@pytest.mark.parametrize(
    "make, message",
    [
        (SE(8), r"wanted a class or a function that makes a module from the channels, got the module SE\(…\) itself"),
        (7, r"wanted a class or a function that makes a module from the channels, got 7"),
        (dict.fromkeys, r"not iterable|wanted a module from fromkeys, got dict"),
        (str, r"wanted a module from str, got str"),
    ],
)
def test_what_makes_no_module_is_refused(make, message):
    with pytest.raises(TypeError, match=message):
        attention_factory(make, {})(8, device=torch.device("cpu"), dtype=HALF)
    model = nn.Sequential(nn.Conv2d(3, 8, 1))
    with pytest.raises(TypeError, match=message):
        attach(model, after="0", attn=make)
    assert isinstance(model[0], nn.Conv2d)


def test_an_attention_is_a_class_that_takes_the_channels(names):
    class Nothing(nn.Module):
        def __init__(self):
            super().__init__()

    with pytest.raises(TypeError, match="Nothing must accept the channels as its first argument"):
        register_attention("nothing", Nothing)
    with pytest.raises(
        TypeError, match=r"attention must be a class derived from torch\.nn\.Module, got <class 'dict'>"
    ):
        register_attention("nothing", dict)
