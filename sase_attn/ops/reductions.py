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
    """Base: a squeeze over `axes` of (B, C, H, W)."""

    axes: ClassVar[tuple[int, ...]]

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


class GAP(Reduction):
    """Mean."""

    def forward(self, x: Tensor) -> Tensor:
        return statistics.mean(x, self.dims)


class L4(Reduction):
    """(Σ x⁴)^¼."""

    def forward(self, x: Tensor) -> Tensor:
        return statistics.l4(x, self.dims)


class L4Mean(Reduction):
    """(mean x⁴)^¼."""

    def forward(self, x: Tensor) -> Tensor:
        return statistics.l4_mean(x, self.dims)


class GAPGMP(MixedReduction):
    """Mean and maximum."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.mixer(statistics.mean(x, self.dims), statistics.maximum(x, self.dims)))


class GAPSTD(MixedReduction):
    """Mean and standard deviation."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.mixer(statistics.mean(x, self.dims), statistics.std(x, self.dims)))


class GAPSkew(MixedReduction):
    """Mean and third central moment."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.mixer(statistics.mean(x, self.dims), statistics.third_moment(x, self.dims)))


class GAPSkewness(MixedReduction):
    """Mean and standardised third moment."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.mixer(statistics.mean(x, self.dims), statistics.skewness(x, self.dims)))
