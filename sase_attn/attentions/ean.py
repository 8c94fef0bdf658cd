"""EAN: an Efficient Attention module guided by Normalization, AAAI 2024. No official code was found."""

import torch
from torch import Tensor, nn

from sase_attn import statistics
from sase_attn.attention import Attention
from sase_attn.attentions.layers import divisor
from sase_attn.channel_axes import Axes
from sase_attn.ops.arguments import positive


class EAN(Attention):
    """y = x·sigmoid(n·α·γ̂ + δ), element-wise; n = γ·standardised x + β over H, W; γ̂ = γ/√(mean γ² + 1e-5).

    The channels form G groups, which share the weights α, δ, γ, β of C/G channels each.

    Parameters: `4*C//G`; MACs: `0`; G = 16. Goes after the last norm of a residual branch (assumed).

    α and δ start at 0, so the gate starts at 0.5. The L2 norm is that of the weights γ, not of the features; SASE's
    operation `l2norm` reads this paper differently. G is the largest divisor of C up to `groups`.

    Args:
        channels: C.
        groups: the largest G.

    Raises:
        ValueError: an argument is of the wrong type or out of its range; or, when called, the input is not
            (B, channels, H ≥ 1, W ≥ 1) of float16, bfloat16, float32 or float64.
    """

    def __init__(
        self,
        channels: int,
        groups: int = 16,
        act_layer: object = None,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.channels = positive("channels", channels)
        self.groups = divisor(channels, positive("groups", groups))
        shared = channels // self.groups
        self.weight = nn.Parameter(torch.empty(shared, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(shared, device=device, dtype=dtype))
        self.alpha = nn.Parameter(torch.empty(shared, device=device, dtype=dtype))
        self.delta = nn.Parameter(torch.empty(shared, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start with a gate of 0.5."""
        nn.init.ones_(self.weight)
        nn.init.zeros_(self.bias)
        self.zero_gates()

    def attend(self, x: Tensor) -> Tensor:
        z = statistics.standardise(x, [2, 3])
        weight, bias = self.weight.to(z.dtype), self.bias.to(z.dtype)
        # n·α·γ̂ + δ, where n = γ·z + β, as one scale and one shift per channel.
        factor = self.alpha.to(z.dtype) * weight * torch.rsqrt(weight.square().mean() + 1e-5)
        scale = (factor * weight).repeat(self.groups)[:, None, None]
        shift = (factor * bias + self.delta.to(z.dtype)).repeat(self.groups)[:, None, None]
        return (x * torch.sigmoid(z * scale + shift)).to(x.dtype)

    def zero_gates(self) -> float:
        nn.init.zeros_(self.alpha)
        nn.init.zeros_(self.delta)
        return 0.5

    def channel_axes(self) -> dict[str, Axes]:
        return {"weight": 0, "bias": 0, "alpha": 0, "delta": 0}

    def channel_groups(self) -> int:
        return self.groups
