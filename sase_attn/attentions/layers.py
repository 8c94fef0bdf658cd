"""Layers of the attentions. Their weights are plain parameters, because hosts re-initialise every `nn.Conv2d`."""

import torch
from torch import Tensor, nn

from sase_attn.ops import functional
from sase_attn.ops.layers import draw_as_torch


class Pointwise(nn.Module):
    """A fully connected layer over C of (B, C, H, W), computed in the input's type; initialised as in torch."""

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
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights as torch's own layers do."""
        draw_as_torch(self.weight, self.bias)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.conv(x, self.weight, [0, 0])
        return y if self.bias is None else y + self.bias.to(x.dtype)[:, None, None]


def divisor(number: int, most: int) -> int:
    """The largest divisor of `number` that is at most `most`."""
    return next(d for d in range(min(number, most), 0, -1) if number % d == 0)
