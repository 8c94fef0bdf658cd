"""SRM: Style-based Recalibration Module, arXiv 1903.10829."""

import torch
from torch import Tensor, nn

from sase_attn.attention import Attention
from sase_attn.channel_axes import Axes
from sase_attn.kernels import reader
from sase_attn.ops.arguments import positive
from sase_attn.ops.layers import BatchNorm2d


class SRM(Attention):
    """y = x·sigmoid(BN(w₀·mean + w₁·standard deviation)), with statistics over H, W, and weights per channel.

    Parameters: `4*C`; MACs: `0`, as all is element-wise. Goes after the last norm of a residual branch.

    The standard deviation is √(unbiased variance + 1e-5); for a single position the variance is 0 here. The weights
    start at 0. Neither they nor the norm have weight decay, as in the authors' code.

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
        self.weight = nn.Parameter(torch.empty(channels, 2, device=device, dtype=dtype))
        self.norm = BatchNorm2d(channels, device=device, dtype=dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start with weights of 0."""
        nn.init.zeros_(self.weight)

    def attend(self, x: Tensor) -> Tensor:
        mean, deviation = reader.statistics_of(x, ["mean", "std"], [2, 3])
        std = torch.sqrt(deviation.square() + 1e-5)
        weight = self.weight.to(mean.dtype)[:, :, None, None]
        return (x * torch.sigmoid(self.norm(weight[:, 0] * mean + weight[:, 1] * std))).to(x.dtype)

    def zero_gates(self) -> float:
        with torch.no_grad():
            self.weight.zero_()
            self.norm.bias.zero_()
        self.norm.reset_running_stats()
        return 0.5

    def no_weight_decay(self) -> set[str]:
        return {"weight", "norm.weight", "norm.bias"}

    def channel_axes(self) -> dict[str, Axes]:
        return {"weight": 0, "norm": 0}
