"""GCT (gated): Gated Channel Transformation, arXiv 1909.11519. Not the Gaussian Context Transformer."""

import torch
from torch import Tensor, nn

from sase_attn import statistics
from sase_attn.attention import Attention
from sase_attn.channel_axes import Axes
from sase_attn.ops.arguments import positive


class GatedChannelTransform(Attention):
    """y = x·(1 + tanh(γ·s/√(mean over C of s² + eps) + β)), s = α·√(Σ x² over H, W + eps).

    Parameters: `3*C`; MACs: `0`. Goes before every convolution of a network, the stem and the shortcuts included.

    α starts at 1, γ and β at 0, so that the module starts as an identity. β has no weight decay, as in the authors'
    code.

    Args:
        channels: C.

    Raises:
        ValueError: an argument is of the wrong type or out of its range; or, when called, the input is not
            (B, channels, H ≥ 1, W ≥ 1) of float16, bfloat16, float32 or float64.
    """

    def __init__(
        self,
        channels: int,
        act_layer: object = None,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.channels = positive("channels", channels)
        self.eps = 1e-5
        self.alpha = nn.Parameter(torch.empty(1, channels, 1, 1, device=device, dtype=dtype))
        self.gamma = nn.Parameter(torch.empty(1, channels, 1, 1, device=device, dtype=dtype))
        self.beta = nn.Parameter(torch.empty(1, channels, 1, 1, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start as an identity."""
        nn.init.ones_(self.alpha)
        self.zero_gates()

    def attend(self, x: Tensor) -> Tensor:
        energy = statistics.upcast(x).square().sum((2, 3), keepdim=True)
        norm = self.alpha.to(energy.dtype) * torch.sqrt(energy + self.eps)
        relative = norm * torch.rsqrt(norm.square().mean(1, keepdim=True) + self.eps)
        gate = 1 + torch.tanh(self.gamma.to(energy.dtype) * relative + self.beta.to(energy.dtype))
        return (x * gate).to(x.dtype)

    def zero_gates(self) -> float:
        with torch.no_grad():
            self.gamma.zero_()
            self.beta.zero_()
        return 1.0

    def no_weight_decay(self) -> set[str]:
        return {"beta"}

    def channel_axes(self) -> dict[str, Axes]:
        return {"alpha": 1, "beta": 1, "gamma": 1}
