"""What thop and ptflops are told, with counters in their place: the same as torch's own count."""

import pytest
import torch
from inputs import draw
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from sase_attn import SASEBlock, create_attention, create_op
from sase_attn.complexity import ptflops_hooks, thop_ops
from sase_attn.insert import pointwise
from sase_attn.ops.layers import Dense

pytestmark = pytest.mark.usefixtures("one_thread")


def counted(module, counters, attribute, x):
    for part in module.modules():
        if type(part) in counters:
            setattr(part, attribute, 0)
            part.register_forward_hook(counters[type(part)])
    with torch.no_grad():
        module(x)
    return [getattr(part, attribute) for part in module.modules() if type(part) in counters]


def flops(module, x):
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(x)
    return counter.get_total_flops() / 2


@pytest.mark.parametrize("name", ["sase", "cbam", "autola", "att_darts", "double_attention", "mca_s", "tiled_se"])
def test_whole_attentions_by_thop(name):
    module, x = create_attention(name, 16).eval(), draw(2, 16, 6, 5)
    expected = flops(module, x)
    assert counted(module, thop_ops(), "total_ops", x)[0] == expected > 0


def test_operations_by_thop():
    op, x = create_op("channel_squeeze", "gsop", 16).eval(), draw(2, 16, 6, 5)
    expected = flops(op, x)
    assert counted(op, thop_ops(), "total_ops", x)[0] == expected > 0


def test_linear_layers_by_thop():
    """thop adds up the layers of an nn.Sequential, whatever is said of it: none of those counted as a whole is one."""
    linear, x = pointwise(nn.Linear(8, 4)), draw(2, 8, 6, 5)
    assert counted(linear, thop_ops(), "total_ops", x) == [2 * 6 * 5 * 8 * 4]
    assert not any(issubclass(cls, nn.Sequential) for cls in thop_ops())


@pytest.mark.parametrize("name", ["sase", "cbam", "scse", "mca_s"])
def test_convolutions_by_ptflops(name):
    module, x = create_attention(name, 16).eval(), draw(2, 16, 6, 5)
    products = sum(2 * part.weight.numel() for part in module.modules() if type(part) is Dense)  # ptflops sees these
    expected = flops(module, x) - products
    assert sum(counted(module, ptflops_hooks(), "__flops__", x)) == expected > 0


def test_classes_of_the_user():
    class Mine(SASEBlock):
        """A class that is defined after the package."""

    assert Mine in thop_ops()


def test_a_pass_that_fails_leaves_the_next_to_be_counted():
    counters = thop_ops()
    module, x = create_attention("sase", 16).eval(), draw(2, 16, 6, 5)
    with pytest.raises(ValueError, match="expected an input of shape"):
        counters[type(module)](module, (draw(2, 15, 6, 5),), None)
    expected = flops(module, x)
    assert counted(module, counters, "total_ops", x)[0] == expected > 0
