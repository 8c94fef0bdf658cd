"""Layers of which the operations are built: convolutions, the mix of two statistics, and batch norm.

Weights are plain parameters rather than `nn.Conv2d`, because hosts such as timm's ResNet re-initialise every
`nn.Conv2d` they find after construction.
"""

import math

import torch
from timm.layers import register_notrace_module
from torch import Tensor, nn

from sase_attn.ops import functional
from sase_attn.ops.start import Startable


def draw_as_torch(weight: Tensor, bias: Tensor | None = None) -> None:
    """Draw the weight (out, in, …) and the bias of a layer as torch's own layers do."""
    nn.init.kaiming_uniform_(weight, a=math.sqrt(5))
    if bias is not None:
        bound = 1 / math.sqrt(weight.shape[1:].numel())
        nn.init.uniform_(bias, -bound, bound)


class _Drawn(Startable):
    """A layer with one `weight`, which `gate_init="release"` draws anew where it is that of a 2-D convolution."""

    weight: nn.Parameter

    def draw_as_release(self) -> None:
        """Draw from N(0, 2/fan-out), as the release's ResNet does with each `nn.Conv2d`."""
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")


class Mixer(_Drawn):
    """Weighted sum of two statistics: the paper's 2→1 convolution, without bias, before its ReLU.

    The weights start at (0.5, 0.5). Random weights would leave the ReLU at zero everywhere, with no gradient, in almost
    half of all draws.
    """

    def __init__(self, *, device: torch.device | None = None, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(1, 2, 1, 1, device=device, dtype=dtype))
        self.reset_parameters()

    def draw(self) -> None:
        nn.init.constant_(self.weight, 0.5)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        weight = self.weight.to(first.dtype)
        return weight[:, :1] * first + weight[:, 1:] * second

    def make_alive(self) -> None:
        """Make both weights non-negative, so that the ReLU after the sum passes non-negative statistics."""
        with torch.no_grad():
            self.weight.abs_()


class Filter(_Drawn):
    """Convolution without bias that keeps the size. `shape` is the weight's, (out, in, k) or (out, in, kh, kw).

    The weight is drawn as that of torch's own layers.
    """

    def __init__(self, *shape: int, device: torch.device | None = None, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        self.padding = [k // 2 for k in shape[2:]]
        self.reset_parameters()

    def draw(self) -> None:
        draw_as_torch(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        return functional.conv(x, self.weight, self.padding)

    def make_alive(self) -> None:
        """Make the weights of the first half of the outputs (at least one) non-negative, so that a ReLU passes them."""
        with torch.no_grad():
            half = (len(self.weight) + 1) // 2
            alive = torch.cat([self.weight[:half].abs(), self.weight[half:]])
            if hasattr(alive, "redistribute"):  # of a sharded weight, whose parts cannot be changed in place
                alive = alive.redistribute(placements=self.weight.placements)  # type: ignore[attr-defined]
            self.weight.copy_(alive)


class Dense(Filter):
    """1×1 convolution of one value per channel, (B, C, 1, 1)."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.dense(x, self.weight)


@register_notrace_module
class BatchNorm2d(Startable, nn.BatchNorm2d):
    """`nn.BatchNorm2d` in the input's type, which in training also accepts a single value per channel."""

    def draw(self) -> None:
        nn.BatchNorm2d.reset_parameters(self)

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
    """Start every 2-D filter and mixer from N(0, 2/fan-out), as the release's ResNet does with each `nn.Conv2d`."""
    for layer in module.modules():
        if isinstance(layer, _Drawn) and layer.weight.ndim == 4:
            layer.start("draw_as_release")
