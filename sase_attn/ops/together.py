"""Squeezes of one map whose statistics kernels take in one read; each other squeeze reads the map by itself.

For maps that `statistics.fused` accepts. Every function also gives the map to go on with, see `statistics.one_read`.
"""

from typing import TypeGuard

from torch import Tensor, nn

from sase_attn import statistics
from sase_attn.ops.reductions import Reduction

SPACE, CHANNELS = [2, 3], [1]


def channel_squeeze(op: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """op(x), (B, C, 1, 1)."""
    if not _follows(op, SPACE):
        return op(x), x
    values, _, x = statistics.one_read(x, op.names, SPACE)
    return op.combine(values), x


def spatial_squeezes(
    of_gated: nn.Module, of_input: nn.Module, x: Tensor, gate: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """of_gated(x·gate) and of_input(x), (B, 1, H, W), for a gate (B, C, 1, 1)."""
    names: list[str] = of_input.names if _follows(of_input, CHANNELS) else []
    weighted: list[str] = of_gated.names if _follows(of_gated, CHANNELS) else []
    values: list[Tensor] = []
    products: list[Tensor] = []
    if names or weighted:
        values, products, x = statistics.one_read(x, names, CHANNELS, gate if weighted else None, weighted)
    first = of_gated.combine(products) if _follows(of_gated, CHANNELS) else of_gated(x * gate)
    second = of_input.combine(values) if _follows(of_input, CHANNELS) else of_input(x)
    return first, second, x


def _follows(op: nn.Module, dims: list[int]) -> TypeGuard[Reduction]:
    """Whether an operation is what its statistics make of it: a reduction over these axes as written, without hooks."""
    if not isinstance(op, Reduction) or op.dims != dims:
        return False
    if type(op).forward is not Reduction.forward:
        return False
    hooks = (op._forward_hooks, op._forward_pre_hooks, op._backward_hooks, op._backward_pre_hooks)
    return not any(hooks)
