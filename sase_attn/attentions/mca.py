"""MCA: Moment Channel Attention Networks, arXiv 2403.01713: of the deviation (MCA-E) and of the skewness (MCA-S)."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from sase_attn.attention import Attention
from sase_attn.channel_axes import Axes
from sase_attn.kernels import reader
from sase_attn.ops import functional
from sase_attn.ops.arguments import odd, positive


class MCAE(Attention):
    """y = x·sigmoid(convolution along C of [mean, standard deviation] over H, W).

    Parameters: `2*k + 1`; MACs: `2*k*C`; k = 3. Goes after the last norm of a residual branch (assumed: the authors'
    code holds no ResNet).

    The standard deviation is biased. The paper's figure has a learned weight for each moment, which the authors' code
    has not, nor has this.

    Args:
        channels: C.
        kernel_size: k, odd; 3 where None, and 7 in MCA-S.

    Raises:
        ValueError: an argument is of the wrong type or out of its range; or, when called, the input is not
            (B, channels, H ≥ 1, W ≥ 1) of float16, bfloat16, float32 or float64.
    """

    taps: ClassVar[int] = 3
    reads: ClassVar[tuple[str, ...]] = ("mean", "biased_std")

    def __init__(
        self,
        channels: int,
        kernel_size: int | None = None,
        act_layer: object = None,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        kernel_size = self.taps if kernel_size is None else odd("kernel_size", kernel_size)
        self.channels = positive("channels", channels)
        self.names = list(self.reads)
        self.conv = nn.Conv1d(2, 1, kernel_size, padding=kernel_size // 2, device=device, dtype=dtype)

    def attend(self, x: Tensor) -> Tensor:
        values = reader.statistics_of(x, self.names, [2, 3])
        moments = torch.cat([values[0], self.moment(values)], dim=3)[:, :, 0].transpose(1, 2)
        gate = functional.conv(moments, self.conv.weight, [self.conv.weight.shape[2] // 2])
        bias = self.conv.bias
        if bias is not None:
            gate = gate + bias.to(gate.dtype)
        return (x * torch.sigmoid(gate)[:, 0, :, None, None]).to(x.dtype)

    def moment(self, values: list[Tensor]) -> Tensor:
        """The second input of the convolution, (B, C, 1, 1), from the statistics that the class reads."""
        return values[1]

    def zero_gates(self) -> float:
        nn.init.zeros_(self.conv.weight)
        assert self.conv.bias is not None
        nn.init.zeros_(self.conv.bias)
        return 0.5

    def channel_axes(self) -> dict[str, Axes]:
        return {}


class MCAS(MCAE):
    """`MCAE` with the skewness E[(x − μ)³]/(σ³ + 1e-5) in place of the standard deviation.

    Parameters: `2*k + 1`; MACs: `2*k*C`; k = 7, the paper's strong variant.
    """

    taps = 7
    reads = ("mean", "biased_std", "third_moment")

    def moment(self, values: list[Tensor]) -> Tensor:
        return values[2] / (values[1] ** 3 + 1e-5)
