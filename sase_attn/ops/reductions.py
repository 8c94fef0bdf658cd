"""Squeezes that are the same formula over either group of axes; `channel_squeeze` and `spatial_squeeze` name the axes.

Two-statistic operations are ReLU(w₀·first + w₁·second), w shared by all positions.
"""

from typing import ClassVar

import torch
from torch import Tensor

from sase_attn import statistics
from sase_attn.ops.layers import Mixer
from sase_attn.ops.op import Op


class Reduction(Op):
    """Base: a squeeze over `axes` of (B, C, H, W) that follows from the statistics it `reads`, by `combine`."""

    axes: ClassVar[tuple[int, ...]]
    reads: ClassVar[tuple[str, ...]]

    def __init__(
        self,
        channels: int,
        *,
        size: int | tuple[int, int] | None = None,
        rd_ratio: float = 1 / 16,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(channels, size=size, rd_ratio=rd_ratio, device=device, dtype=dtype)
        self.dims = list(self.axes)
        self.names = list(self.reads)

    def forward(self, x: Tensor) -> Tensor:
        return self.combine(statistics.several(x, self.names, self.dims))

    def combine(self, values: list[Tensor]) -> Tensor:
        """The squeeze from its statistics."""
        return values[0]


class MixedReduction(Reduction):
    """Base: a squeeze that mixes two statistics."""

    def __init__(
        self,
        channels: int,
        *,
        size: int | tuple[int, int] | None = None,
        rd_ratio: float = 1 / 16,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(channels, size=size, rd_ratio=rd_ratio, device=device, dtype=dtype)
        self.mixer = Mixer(device=device, dtype=dtype)

    def combine(self, values: list[Tensor]) -> Tensor:
        return torch.relu(self.mixer(values[0], values[1]))


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
