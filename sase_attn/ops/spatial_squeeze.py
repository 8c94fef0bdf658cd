"""Spatial squeezes, (B, C, H, W) → (B, 1, H, W): one number per position (SASE, arXiv 2411.08333).

The first seven are the operations of the authors' release in the paper's order; those after them are other readings
of the text. float16 and bfloat16 inputs give float32. Deviations from the release: outputs and gradients are finite for
zero, constant and single-channel maps; mixing weights start at (0.5, 0.5); operations accept any H, W.
"""

from typing import Any

import torch
from torch import Tensor, nn

from sase_attn import statistics
from sase_attn.channel_axes import Axes
from sase_attn.kernels import reader
from sase_attn.ops import functional, reductions
from sase_attn.ops.gsop import SecondOrder
from sase_attn.ops.op import Op, PerPosition


class SpatialGAP(reductions.GAP):
    """Mean over C."""

    axes = (1,)


def averaged(x: Tensor) -> Tensor:
    """(B, C, H, W) → (B, C, 8, 8), by adaptive averaging."""
    return statistics.adaptive_mean(statistics.adaptive_mean(x, -1, 8), -2, 8)


class SpatialGSoP(Op):
    """Second-order pooling: covariance over C of the 8×8 averaged positions, divided by 63, resized to H, W."""

    def build(self, size: tuple[int, int], rd_ratio: float, **place: Any) -> None:
        self.second_order = SecondOrder(64, 64, **place)

    @reader.takes_readers
    def forward(self, x: Tensor) -> Tensor:
        x = functional.check_input(reader.whole(x), self.channels)
        return self.pool(averaged(x), x.shape[2], x.shape[3])

    def pool(self, positions: Tensor, height: int, width: int) -> Tensor:
        """Compute the operation from `averaged(x)`."""
        pooled = self.second_order(positions.flatten(2).transpose(1, 2), self.divisor()).reshape(-1, 1, 8, 8)
        return statistics.adaptive_mean(statistics.adaptive_mean(pooled, -1, width), -2, height)

    def divisor(self) -> int:
        """The divisor of the covariance."""
        return 63

    def channel_axes(self) -> dict[str, Axes]:
        return {}


class SpatialGSoPSample(SpatialGSoP):
    """`gsop` with the covariance divided by the number of samples C, as covariances usually are."""

    def divisor(self) -> int:
        return self.channels


class SpatialL2Norm(PerPosition):
    """Layer norm of each channel over H, W with affine per position (kept at `size`), then L2 over C."""

    per_position = ("weight", "bias")

    def build(self, size: tuple[int, int], rd_ratio: float, **place: Any) -> None:
        shape = size
        self.weight = nn.Parameter(torch.empty(shape, **place))
        self.bias = nn.Parameter(torch.empty(shape, **place))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start as a standardisation without an affine map."""
        nn.init.ones_(self.weight)
        nn.init.zeros_(self.bias)

    @reader.takes_readers
    def forward(self, x: Tensor) -> Tensor:
        x = functional.check_input(reader.whole(x), self.channels)
        standardised = statistics.standardise(x, [2, 3])
        weight = functional.resize_like(self.weight[None], standardised)
        bias = functional.resize_like(self.bias[None], standardised)
        return statistics.l2(standardised * weight + bias, [1])

    def channel_axes(self) -> dict[str, Axes]:
        return {}


class SpatialL2NormChannel(reductions.L2Norm):
    """The text's reading of `l2norm`: standardise over C at each position, affine per channel, then L2 over C."""

    axes = (1,)


class SpatialL4(reductions.L4):
    """L4 norm (Σ x⁴)^¼ over C."""

    axes = (1,)


class SpatialGAPGMP(reductions.GAPGMP):
    """ReLU(w₀·mean + w₁·maximum) over C."""

    axes = (1,)


class SpatialGAPSTD(reductions.GAPSTD):
    """ReLU(w₀·mean + w₁·unbiased standard deviation) over C."""

    axes = (1,)


class SpatialGAPSkew(reductions.GAPSkew):
    """ReLU(w₀·mean + w₁·third central moment) over C; the moment is not divided by σ³."""

    axes = (1,)


class SpatialL4Mean(reductions.L4Mean):
    """(mean x⁴)^¼ over C: the text's reading of L4."""

    axes = (1,)


class SpatialGAPSkewness(reductions.GAPSkewness):
    """`gap_skew` with the moment divided by (σ² + 1e-5)^1.5: skewness as statistics defines it."""

    axes = (1,)


SPATIAL_SQUEEZE: dict[str, type[nn.Module]] = {
    "gap": SpatialGAP,
    "gsop": SpatialGSoP,
    "l2norm": SpatialL2Norm,
    "l4": SpatialL4,
    "gap_gmp": SpatialGAPGMP,
    "gap_std": SpatialGAPSTD,
    "gap_skew": SpatialGAPSkew,
    "l4_mean": SpatialL4Mean,
    "gap_skewness": SpatialGAPSkewness,
    "l2norm_channel": SpatialL2NormChannel,
    "gsop_sample": SpatialGSoPSample,
}
