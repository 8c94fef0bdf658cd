"""Channel squeezes, (B, C, H, W) → (B, C, 1, 1): one number per channel (SASE, arXiv 2411.08333).

The first seven are the operations of the authors' release in the paper's order; those after them are other readings
of the text. float16 and bfloat16 inputs give float32. Deviations from the release: outputs and gradients are finite for
zero, constant and single-element maps; mixing weights start at (0.5, 0.5).
"""

from typing import Any

from torch import Tensor, nn

from sase_attn import statistics
from sase_attn.channel_axes import Axes
from sase_attn.kernels import reader
from sase_attn.ops import functional, reductions
from sase_attn.ops.gsop import SecondOrder
from sase_attn.ops.op import Op


class ChannelGAP(reductions.GAP):
    """Mean over H, W."""

    axes = (2, 3)


class ChannelGSoP(Op):
    """Second-order pooling: covariance over H, W of C/4 averaged channels, divided by C/4 − 1."""

    def build(self, size: tuple[int, int], rd_ratio: float, **place: Any) -> None:
        self.rows = max(1, self.channels // 4)
        self.second_order = SecondOrder(self.rows, self.channels, **place)

    @reader.takes_readers
    def forward(self, x: Tensor) -> Tensor:
        x = functional.check_input(reader.whole(x), self.channels)
        return self.second_order(self.pool(x), max(1, self.rows - 1))

    def pool(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C/4, H·W), by adaptive averaging over neighbouring channels."""
        return statistics.adaptive_mean(x.flatten(2), -2, self.rows)

    def channel_axes(self) -> dict[str, Axes]:
        return {"second_order.fc": 0}


class ChannelGSoPSample(ChannelGSoP):
    """`gsop` with the covariance divided by the number of samples H·W, as covariances usually are."""

    @reader.takes_readers
    def forward(self, x: Tensor) -> Tensor:
        x = functional.check_input(reader.whole(x), self.channels)
        return self.second_order(self.pool(x), x.shape[2] * x.shape[3])


class ChannelL2Norm(reductions.L2Norm):
    """Instance norm with affine (γ, β), then L2 over H, W: √(HW(γ² + β²)) but for eps, hardly a function of x."""

    axes = (2, 3)


class ChannelL2NormGroup(ChannelL2Norm):
    """`l2norm` standardised over groups of 2 to 16 channels, which unlike it depends on x."""

    def build(self, size: tuple[int, int], rd_ratio: float, **place: Any) -> None:
        super().build(size, rd_ratio, **place)
        sizes = [count for count in range(2, 17) if self.channels % count == 0]
        self.groups = self.channels // max(sizes) if sizes else 1

    def standardise(self, x: Tensor) -> Tensor:
        """x with mean 0 and variance 1 over H, W and the channels of a group."""
        grouped = x.unflatten(1, (self.groups, self.channels // self.groups))
        return statistics.standardise(grouped, [2, 3, 4]).flatten(1, 2)

    def channel_groups(self) -> int:
        return self.groups


class ChannelL4(reductions.L4):
    """L4 norm (Σ x⁴)^¼ over H, W."""

    axes = (2, 3)


class ChannelGAPGMP(reductions.GAPGMP):
    """ReLU(w₀·mean + w₁·maximum) over H, W."""

    axes = (2, 3)


class ChannelGAPSTD(reductions.GAPSTD):
    """ReLU(w₀·mean + w₁·unbiased standard deviation) over H, W."""

    axes = (2, 3)


class ChannelGAPSkew(reductions.GAPSkew):
    """ReLU(w₀·mean + w₁·third central moment) over H, W; the moment is not divided by σ³."""

    axes = (2, 3)


class ChannelL4Mean(reductions.L4Mean):
    """(mean x⁴)^¼ over H, W: the text's reading of L4."""

    axes = (2, 3)


class ChannelGAPSkewness(reductions.GAPSkewness):
    """`gap_skew` with the moment divided by (σ² + 1e-5)^1.5: skewness as statistics defines it."""

    axes = (2, 3)


CHANNEL_SQUEEZE: dict[str, type[nn.Module]] = {
    "gap": ChannelGAP,
    "gsop": ChannelGSoP,
    "l2norm": ChannelL2Norm,
    "l4": ChannelL4,
    "gap_gmp": ChannelGAPGMP,
    "gap_std": ChannelGAPSTD,
    "gap_skew": ChannelGAPSkew,
    "l4_mean": ChannelL4Mean,
    "gap_skewness": ChannelGAPSkewness,
    "l2norm_group": ChannelL2NormGroup,
    "gsop_sample": ChannelGSoPSample,
}
