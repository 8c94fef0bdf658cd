"""GCT (Gaussian): Gaussian Context Transformer, CVPR 2021. Not the Gated Channel Transformation."""

import torch
from torch import Tensor, nn

from sase_attn import statistics
from sase_attn.attention import Attention
from sase_attn.channel_axes import Axes
from sase_attn.ops.arguments import flag, positive


class GCTGaussian(Attention):
    """y = x·exp(−z²/(2c²)), where z are the channel means of x, standardised over C.

    Parameters: `1` (0 if not `learnable`); MACs: `0`. Goes after the last norm of a residual branch.

    GCT-B1 learns c = 3·sigmoid(θ) + 1, starting at θ = 0; GCT-B0 has c = 2. No official code was found. Two popular
    ports compute exp(−z²/2·c), which at c = 2 is exp(−z²), while the paper has exp(−z²/8). The variance is biased, with
    eps 1e-5.

    Args:
        channels: C.
        learnable: whether c is learned (GCT-B1) or 2 (GCT-B0).

    Raises:
        ValueError: an argument is of the wrong type or out of its range; or, when called, the input is not
            (B, channels, H ≥ 1, W ≥ 1) of float16, bfloat16, float32 or float64.
    """

    never_constant = "its gate is a Gaussian of the channels' means, whose width is bounded"

    def __init__(
        self,
        channels: int,
        learnable: bool = True,
        act_layer: object = None,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.channels = positive("channels", channels)
        self.theta = nn.Parameter(torch.empty(1, device=device, dtype=dtype)) if flag("learnable", learnable) else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start a learned width at c = 2.5."""
        if self.theta is not None:
            nn.init.zeros_(self.theta)

    def attend(self, x: Tensor) -> Tensor:
        z = statistics.standardise(statistics.mean(x, [2, 3]), [1])
        if self.theta is None:
            gate = torch.exp(z.square() / -8)
        else:
            c = 3 * torch.sigmoid(self.theta.to(z.dtype)) + 1
            gate = torch.exp(z.square() / (-2 * c.square()))
        return (x * gate).to(x.dtype)

    def channel_axes(self) -> dict[str, Axes]:
        return {}
