"""Spatial excitations, (B, 1, H, W) → (B, 1, H, W): the gate of each position (SASE, arXiv 2411.08333).

These are the operations of the authors' release in the paper's order. Every one ends in a sigmoid, and no layer has a
bias. Deviation from the release: `affine` accepts any H, W.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from sase_attn.channel_axes import Axes
from sase_attn.ops import functional
from sase_attn.ops.layers import Filter
from sase_attn.ops.op import Excite, PerPosition
from sase_attn.ops.start import Startable


class Conv2d(Excite):
    """Base: convolutions of the given `kernels` one after the other, ReLU between if `relu`, sigmoid at the end."""

    kernels: ClassVar[tuple[tuple[int, int], ...]]
    relu: ClassVar[bool] = True

    def build(self, size: tuple[int, int], rd_ratio: float, **place: Any) -> None:
        first, *rest = (Filter(1, 1, *kernel, **place) for kernel in self.kernels)
        self.first = first
        self.rest = nn.ModuleList(rest)
        self.between = nn.ReLU() if self.relu else nn.Identity()

    def forward(self, m: Tensor) -> Tensor:
        m = functional.check_input(m, 1)
        y = self.first(m)
        for layer in self.rest:
            y = layer(self.between(y))
        return torch.sigmoid(y)

    def zero_gate(self) -> float:
        layers = [self.first, *self.rest]
        for layer in layers[:-1]:
            layer.start("make_alive")
        layers[-1].start("make_zero")
        return 0.5

    def channel_axes(self) -> dict[str, Axes]:
        return {}


class Conv2dK3(Conv2d):
    """3×3 convolution, sigmoid."""

    kernels = ((3, 3),)


class Conv2dK5(Conv2d):
    """5×5 convolution, sigmoid."""

    kernels = ((5, 5),)


class Conv2dK7(Conv2d):
    """7×7 convolution, sigmoid."""

    kernels = ((7, 7),)


class Conv2dK3x2(Conv2d):
    """Two 3×3 convolutions with a ReLU between, sigmoid."""

    kernels = ((3, 3), (3, 3))


class SepK3(Conv2d):
    """1×3 then 3×1 convolution, sigmoid."""

    kernels = ((1, 3), (3, 1))
    relu = False


class SepK5(Conv2d):
    """1×5 then 5×1 convolution, sigmoid."""

    kernels = ((1, 5), (5, 1))
    relu = False


class SpatialAffine(Startable, PerPosition, Excite):
    """sigmoid(α·m + β) with α, β per position (kept at `size`), from (1, 0)."""

    per_position = ("alpha", "beta")

    def build(self, size: tuple[int, int], rd_ratio: float, **place: Any) -> None:
        shape = (1, *size)
        self.alpha = nn.Parameter(torch.empty(shape, **place))
        self.beta = nn.Parameter(torch.empty(shape, **place))
        self.reset_parameters()

    def draw(self) -> None:
        nn.init.ones_(self.alpha)
        nn.init.zeros_(self.beta)

    def forward(self, m: Tensor) -> Tensor:
        m = functional.check_input(m, 1)
        return torch.sigmoid(functional.resize_like(self.alpha, m) * m + functional.resize_like(self.beta, m))

    def zero_gate(self) -> float:
        self.start("make_zero")
        return 0.5

    def channel_axes(self) -> dict[str, Axes]:
        return {}


SPATIAL_EXCITE: dict[str, type[nn.Module]] = {
    "conv2d_k3": Conv2dK3,
    "conv2d_k5": Conv2dK5,
    "conv2d_k7": Conv2dK7,
    "conv2d_k3_x2": Conv2dK3x2,
    "sep_k3": SepK3,
    "sep_k5": SepK5,
    "affine": SpatialAffine,
}
