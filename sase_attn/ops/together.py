"""Squeezes of one map by kernels that read it once for all that is asked over the same axes, and gate it at last.

For maps that `statistics.fused` accepts. A squeeze that its statistics do not describe reads the map by itself.
"""

from typing import TypeGuard

from torch import Tensor, nn

from sase_attn.ops.reductions import Reduction
from sase_attn.statistics import Reads

SPACE, CHANNELS = [2, 3], [1]


class Squeezes:
    """A channel squeeze and two spatial ones of a map, the first of these of the gated map."""

    def __init__(self, x: Tensor, channel: nn.Module, of_gated: nn.Module, of_input: nn.Module) -> None:
        self._x = x
        self._channel, self._of_gated, self._of_input = channel, of_gated, of_input
        self._reads = Reads(x, names(channel, SPACE), names(of_input, CHANNELS), names(of_gated, CHANNELS))

    def channel(self) -> Tensor:
        """The channel squeeze, (B, C, 1, 1)."""
        return self._channel.combine(self._reads.space) if follows(self._channel, SPACE) else self._channel(self._x)

    def spatial(self, gate: Tensor) -> tuple[Tensor, Tensor]:
        """The spatial squeezes of x·gate and of x, (B, 1, H, W), for a gate (B, C, 1, 1)."""
        plain, weighted = follows(self._of_input, CHANNELS), follows(self._of_gated, CHANNELS)
        values: list[Tensor] = []
        products: list[Tensor] = []
        if plain or weighted:
            values, products = self._reads.over_channels(gate if weighted else None)
        first = (
            self._of_gated.combine(products) if follows(self._of_gated, CHANNELS) else self._of_gated(self._x * gate)
        )
        second = self._of_input.combine(values) if follows(self._of_input, CHANNELS) else self._of_input(self._x)
        return first, second

    def gated(self, channel: Tensor, position: Tensor, shortcut: Tensor | None, relu: bool, overwrite: bool) -> Tensor:
        """x·(channel + position), plus a shortcut, through a ReLU; see `Reads.gate`."""
        return self._reads.gate(channel, position, shortcut, relu, overwrite)


def names(op: nn.Module, dims: list[int]) -> list[str]:
    """The statistics over these axes that describe a squeeze; none where it reads the map by itself."""
    return op.names if follows(op, dims) else []


def follows(op: nn.Module, dims: list[int]) -> TypeGuard[Reduction]:
    """Whether an operation is what its statistics make of it: a reduction over these axes as written, without hooks."""
    if not isinstance(op, Reduction) or op.dims != dims:
        return False
    if type(op).forward is not Reduction.forward:
        return False
    hooks = (op._forward_hooks, op._forward_pre_hooks, op._backward_hooks, op._backward_pre_hooks)
    return not any(hooks)
