"""What derives from a layer of torch is one in all respects."""

import copy

import pytest
import torch
from inputs import draw
from package_classes import module_classes
from tolerances import assert_close
from torch import nn
from torch.nn.utils import parametrizations
from torch.overrides import TorchFunctionMode

from sase_attn import create_attention
from sase_attn.insert.squeeze_excite import PointwiseLinear, pointwise
from sase_attn.ops.layers import BatchNorm2d
from sase_attn.search.supernet.block import MixedOp
from sase_attn.tiling.block import TiledSE

COMPARED = {
    BatchNorm2d,  # tests/ops/test_batch_norm.py
    PointwiseLinear,
    MixedOp,
    TiledSE,
}


def test_all_are_compared():
    """`nn.Sequential` is among none of them: what says that it is one applies its children in order, and no more."""
    derived = {
        cls
        for cls in module_classes()
        if any(base.__module__.startswith("torch.nn.") and base is not nn.Module for base in cls.__mro__[1:])
    }
    assert derived == COMPARED
    assert not any(issubclass(cls, nn.Sequential) for cls in derived)


@pytest.mark.parametrize("bias", [True, False])
def test_pointwise_linear(bias):
    """The parameters are the layer's, and it calls what a linear layer calls, which tools that change weights know."""
    linear = nn.Linear(4, 3, bias=bias, dtype=torch.float64).eval()
    module = PointwiseLinear(linear)
    assert (module.weight is linear.weight and module.bias is linear.bias) and not module.training
    assert str(module) == str(linear).replace("Linear", "PointwiseLinear", 1)
    x = draw(2, 4, 3, 5, dtype=torch.float64)
    assert_close(module(x).movedim(1, 3), linear(x.movedim(1, 3)))
    called = []

    class Calls(TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            called.append(function)
            return function(*args, **(kwargs or {}))

    with Calls():
        module(x)
    assert torch.nn.functional.linear in called
    assert PointwiseLinear(nn.Linear(4, 3, device="meta")).weight.is_meta


def with_hook(linear):
    linear.register_forward_pre_hook(lambda *_: None)
    return linear


class Doubled(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


@pytest.mark.parametrize(
    "linear", [Doubled(4, 4), parametrizations.weight_norm(nn.Linear(4, 4)), with_hook(nn.Linear(4, 4))]
)
def test_a_linear_layer_that_does_more_is_refused(linear):
    with pytest.raises(TypeError, match=r"wanted a plain nn\.Linear to apply to maps, got "):
        pointwise(nn.Sequential(linear))


def test_containers():
    tiled = create_attention("tiled_se", 8)
    assert list(tiled.keys()) == [name for name, _ in tiled.named_children()]
    assert tiled["fc1"] is tiled.fc1 and "fc2" in tiled and len(tiled) == 5
    assert list(copy.deepcopy(tiled).state_dict()) == list(tiled.state_dict())
    mixed = MixedOp([nn.Identity(), nn.ReLU(), nn.Tanh()])
    assert [type(op) for op in mixed[1:]] == [nn.ReLU, nn.Tanh] and len(mixed) == 3


@pytest.mark.parametrize("name", ["autola", "spatial_sase_literal"])
def test_layers_in_sequence_are_sliced(name):
    module = create_attention(name, 8)
    chains = [part for part in module.modules() if isinstance(part, nn.Sequential) and len(part) > 1]
    assert chains
    for chain in chains:
        assert len(chain[:-1]) == len(chain) - 1
