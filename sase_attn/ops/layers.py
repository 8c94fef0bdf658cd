"""Layers of which the operations are built: convolutions, the mix of two statistics, and batch norm.

Weights are plain parameters rather than `nn.Conv2d`, because hosts such as timm's ResNet re-initialise every
`nn.Conv2d` they find after construction.
"""

import math

import torch
from timm.layers import register_notrace_module
from torch import Tensor, nn

from sase_attn.ops import functional


class Mixer(nn.Module):
    """Weighted sum of two statistics: the paper's 2→1 convolution, without bias, before its ReLU.

    The weights start at (0.5, 0.5). Random weights would leave the ReLU at zero everywhere, with no gradient, in almost
    half of all draws.
    """

    def __init__(self, *, device: torch.device | None = None, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((1, 2, 1, 1), 0.5, device=device, dtype=dtype))

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        weight = self.weight.to(first.dtype)
        return weight[:, :1] * first + weight[:, 1:] * second

    def make_alive(self) -> None:
        """Make both weights non-negative, so that the ReLU after the sum passes non-negative statistics."""
        with torch.no_grad():
            self.weight.abs_()


class Filter(nn.Module):
    """Convolution without bias that keeps the size. `shape` is the weight's, (out, in, k) or (out, in, kh, kw)."""

    def __init__(self, *shape: int, device: torch.device | None = None, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        self.padding = [k // 2 for k in shape[2:]]
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weight as torch's own convolutions do."""
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        return functional.conv(x, self.weight, self.padding)

    def make_alive(self) -> None:
        """Make the weights of the first half of the outputs (at least one) non-negative, so that a ReLU passes them."""
        with torch.no_grad():
            self.weight[: (len(self.weight) + 1) // 2].abs_()


class Dense(Filter):
    """1×1 convolution of one value per channel, (B, C, 1, 1)."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.dense(x, self.weight)


@register_notrace_module
class BatchNorm2d(nn.BatchNorm2d):
    """`nn.BatchNorm2d` in the input's type, which in training also accepts a single value per channel."""

    def forward(self, x: Tensor) -> Tensor:
        kept = self.track_running_stats or not self.training
        return functional.batch_norm(
            x,
            self.running_mean if kept else None,
            self.running_var if kept else None,
            self.num_batches_tracked if kept else None,
            self.weight,
            self.bias,
            self.training or self.running_mean is None,
            self.momentum,
            self.eps,
        )


def draw_as_release(module: nn.Module) -> None:
    """Draw every 2-D filter and mixer anew from N(0, 2/fan-out), as the release's ResNet does with each `nn.Conv2d`."""
    for layer in module.modules():
        if isinstance(layer, Filter | Mixer) and layer.weight.ndim == 4:
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
