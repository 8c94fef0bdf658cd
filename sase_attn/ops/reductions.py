"""Formulas that channel and spatial squeezes share; `channel_squeeze` and `spatial_squeeze` say over which axes.

Operations of two statistics are ReLU(w₀·first + w₁·second), with w shared by all channels and positions.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from sase_attn import statistics
from sase_attn.channel_axes import Axes
from sase_attn.kernels import reader
from sase_attn.ops import functional
from sase_attn.ops.layers import Mixer
from sase_attn.ops.op import Op


class Reduction(Op):
    """Base: a squeeze over `axes` of (B, C, H, W); `combine` computes it from the statistics that `reads` names."""

    axes: ClassVar[tuple[int, ...]]
    reads: ClassVar[tuple[str, ...]]

    def build(self, size: tuple[int, int], rd_ratio: float, **place: Any) -> None:
        self.dims = list(self.axes)
        self.names = list(self.reads)

    @reader.takes_readers
    def forward(self, x: Tensor) -> Tensor:
        x = functional.check_input(x, self.channels)
        return self.combine(reader.statistics_of(x, self.names, self.dims))

    def combine(self, values: list[Tensor]) -> Tensor:
        """Compute the squeeze from its statistics."""
        return values[0]


class MixedReduction(Reduction):
    """Base: a squeeze that mixes two statistics."""

    def build(self, size: tuple[int, int], rd_ratio: float, **place: Any) -> None:
        super().build(size, rd_ratio, **place)
        self.mixer = Mixer(**place)

    def combine(self, values: list[Tensor]) -> Tensor:
        return torch.relu(self.mixer(values[0], values[1]))

    def channel_axes(self) -> dict[str, Axes]:
        return {}


class GAP(Reduction):
    """Mean."""

    reads = ("mean",)


class L4(Reduction):
    """(Σ x⁴)^¼."""

    reads = ("l4",)


class L4Mean(Reduction):
    """(mean x⁴)^¼."""

    reads = ("l4_mean",)


class GAPGMP(MixedReduction):
    """Mean and maximum."""

    reads = ("mean", "maximum")


class GAPSTD(MixedReduction):
    """Mean and standard deviation."""

    reads = ("mean", "std")


class GAPSkew(MixedReduction):
    """Mean and third central moment."""

    reads = ("mean", "third_moment")


class GAPSkewness(MixedReduction):
    """Mean and standardised third moment."""

    reads = ("mean", "skewness")


class L2Norm(Op):
    """Base: x standardised over `axes`, times a weight plus a bias per channel, then its L2 norm over `axes`."""

    axes: ClassVar[tuple[int, ...]]

    def build(self, size: tuple[int, int], rd_ratio: float, **place: Any) -> None:
        self.over = list(self.axes)
        self.weight = nn.Parameter(torch.empty(self.channels, **place))
        self.bias = nn.Parameter(torch.empty(self.channels, **place))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start as a standardisation without an affine map."""
        nn.init.ones_(self.weight)
        nn.init.zeros_(self.bias)

    @reader.takes_readers
    def forward(self, x: Tensor) -> Tensor:
        standardised = self.standardise(functional.check_input(reader.whole(x), self.channels))
        weight, bias = self.weight.to(standardised.dtype), self.bias.to(standardised.dtype)
        return statistics.l2(standardised * weight[:, None, None] + bias[:, None, None], self.over)

    def standardise(self, x: Tensor) -> Tensor:
        """x with mean 0 and variance 1 over `axes`."""
        return statistics.standardise(x, self.over)

    def channel_axes(self) -> dict[str, Axes]:
        return {"weight": 0, "bias": 0}
