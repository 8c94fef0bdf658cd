"""Building blocks of the attentions. Gates are parameters rather than `nn.Conv2d`, which hosts re-initialise."""

import math

import torch
from torch import Tensor, nn

from sase_attn.ops import functional


class Pointwise(nn.Module):
    """A fully connected layer over C of (B, C, H, W), computed in the input's type; drawn as torch's own layers."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        bias: bool = True,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs, 1, 1, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(outputs, device=device, dtype=dtype)) if bias else None
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            nn.init.uniform_(self.bias, -1 / math.sqrt(inputs), 1 / math.sqrt(inputs))

    def forward(self, x: Tensor) -> Tensor:
        y = functional.conv(x, self.weight, [0, 0])
        return y if self.bias is None else y + self.bias.to(x.dtype)[:, None, None]


def zero_(layer: nn.Module) -> None:
    """Zero all parameters of a layer."""
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()


def reduced(channels: int, rd_ratio: float, rd_channels: int | None = None) -> int:
    """The hidden width max(1, ⌊C·rd_ratio⌋), or `rd_channels`. Raises ValueError if one of them is not positive."""
    positive("channels", channels)
    if rd_channels is not None:
        return positive("rd_channels", rd_channels)
    if rd_ratio <= 0:
        raise ValueError(f"rd_ratio must be above 0, got {rd_ratio}")
    return max(1, int(channels * rd_ratio))


def positive(name: str, value: int) -> int:
    """`value`, if it is at least 1; otherwise ValueError."""
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")
    return value


def divisor(number: int, most: int) -> int:
    """The largest divisor of `number` that is at most `most`."""
    return next(d for d in range(min(number, most), 0, -1) if number % d == 0)
