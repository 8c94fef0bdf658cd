"""MCA: Moment Channel Attention Networks, arXiv 2403.01713: of the deviation (MCA-E) and of the skewness (MCA-S)."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from sase_attn import statistics
from sase_attn.attentions.attention import Attention
from sase_attn.attentions.layers import positive
from sase_attn.ops import functional


class MCAE(Attention):
    """y = x·sigmoid(convolution along C of [mean, standard deviation] over H, W).

    Parameters: `2*k + 1`; MACs: `2*k*C`; k = 3. Goes after the last norm of a residual branch (assumed: the authors'
    code holds no ResNet).

    The standard deviation is biased. The learned weight of each moment in the paper's figure is not in the authors'
    code, and not here.

    Args:
        channels: C.
        kernel_size: taps along C, odd.

    Raises:
        ValueError: an argument is out of its range; or, when called, the input is not (B, channels, H, W).
    """

    taps: ClassVar[int] = 3

    def __init__(
        self,
        channels: int,
        kernel_size: int | None = None,
        act_layer: object = None,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        kernel_size = self.taps if kernel_size is None else kernel_size
        if kernel_size % 2 != 1:
            raise ValueError(f"kernel_size must be odd, got {kernel_size}")
        self.channels = positive("channels", channels)
        self.conv = nn.Conv1d(2, 1, kernel_size, padding=kernel_size // 2, device=device, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.check_input(x, self.channels)
        moments = torch.cat([statistics.mean(x, [2, 3]), self.moment(x)], dim=3)[:, :, 0].transpose(1, 2)
        gate = functional.conv(moments, self.conv.weight, [self.conv.weight.shape[2] // 2])
        bias = self.conv.bias
        if bias is not None:
            gate = gate + bias.to(gate.dtype)
        return (x * torch.sigmoid(gate)[:, 0, :, None, None]).to(x.dtype)

    def moment(self, x: Tensor) -> Tensor:
        """The second statistic, (B, C, 1, 1)."""
        return statistics.biased_std(x, [2, 3])

    def zero_gates(self) -> float:
        nn.init.zeros_(self.conv.weight)
        assert self.conv.bias is not None
        nn.init.zeros_(self.conv.bias)
        return 0.5


class MCAS(MCAE):
    """`MCAE` with the skewness E[(x − μ)³]/(σ³ + 1e-5) for the standard deviation.

    Parameters: `2*k + 1`; MACs: `2*k*C`; k = 7, the paper's strong variant.
    """

    taps = 7

    def moment(self, x: Tensor) -> Tensor:
        return statistics.third_moment(x, [2, 3]) / (statistics.biased_std(x, [2, 3]) ** 3 + 1e-5)
