"""Multiply-accumulates of attention for tools that count them by the classes of layers: `thop_ops`, `ptflops_hooks`.

thop and ptflops know torch's own layers, and count nothing for any other. The functions here add what
`torch.utils.flop_counter.FlopCounterMode` counts: convolutions and matrix products, but no element-wise work.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from sase_attn.attention import Attention
from sase_attn.attentions.layers import Pointwise
from sase_attn.attentions.mca import MCAE, MCAS
from sase_attn.block import SASEBlock
from sase_attn.insert.squeeze_excite import PointwiseLinear
from sase_attn.modules import derived_classes
from sase_attn.ops import Op
from sase_attn.ops.layers import Dense, Filter
from sase_attn.spatially_adaptive.layers import GroupedLinear

Counters = dict[type[nn.Module], Callable[[Any, Any, Any], None]]
"""For each class, the hook to call after a forward pass of its modules, with the module, its inputs and its output."""


def thop_ops() -> Counters:
    """`custom_ops` of thop: `thop.profile(model, (image,), custom_ops=sase_attn.complexity.thop_ops())`.

    It has the class of the block, and every class of an attention or an operation that is defined by now. thop then
    runs each such module a second time to count it.
    """
    running: list[nn.Module] = []

    def count_whole(module: Any, inputs: tuple[Any, ...], output: Any) -> None:
        if running:  # this module is part of one that is counted as a whole
            return
        running.append(module)
        try:
            with FlopCounterMode(display=False) as counter:
                module.forward(*inputs)
        finally:
            running.clear()
        module.total_ops += counter.get_total_flops() / 2

    bases: tuple[type[nn.Module], ...] = (SASEBlock, Attention, Op)
    whole: list[type[nn.Module]] = [SASEBlock, *(derived for base in bases for derived in derived_classes(base))]
    layers: Counters = dict.fromkeys([Filter, Dense, Pointwise, GroupedLinear, PointwiseLinear], _layer_for_thop)
    return layers | dict.fromkeys(whole, count_whole)


def ptflops_hooks() -> Counters:
    """`custom_modules_hooks` of ptflops, for its default backend; its backend "aten" needs none.

    It has the classes of layers that call a convolution as a function. ptflops counts matrix products and element-wise
    functions by itself.
    """
    layers: Counters = dict.fromkeys([Filter, Pointwise, GroupedLinear, PointwiseLinear], _layer_for_ptflops)
    return layers | dict.fromkeys([MCAE, MCAS], _moments_for_ptflops)


def _layer_for_thop(module: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    module.total_ops += _convolution(module.weight, output)


def _layer_for_ptflops(module: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    module.__flops__ += _convolution(module.weight, output)


def _moments_for_ptflops(module: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    module.__flops__ += module.conv.weight.numel() * output.shape[0] * output.shape[1]


def _convolution(weight: Tensor, output: Tensor) -> int:
    """Multiply-accumulates of a convolution: every weight is used once for each position of every sample."""
    return weight.numel() * output.numel() // output.shape[1]
