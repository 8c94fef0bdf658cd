"""Channel excitations, (B, C, 1, 1) → (B, C, 1, 1): the gate of each channel (SASE, arXiv 2411.08333).

The first seven are the operations of the authors' release in the paper's order; those after them are other readings
of the text. No layer has a bias. Deviation from the release: the FC's width is max(1, ⌊C·rd_ratio⌋), which is never 0.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from sase_attn.channel_axes import Axes
from sase_attn.ops import functional
from sase_attn.ops.arguments import reduced_channels
from sase_attn.ops.layers import Dense, Filter
from sase_attn.ops.op import Excite
from sase_attn.ops.start import Startable


class FC(Excite):
    """Two fully connected layers C → C/16 → C with a ReLU between; no sigmoid: the gate is unbounded."""

    def build(self, size: tuple[int, int], rd_ratio: float, **place: Any) -> None:
        hidden = reduced_channels(self.channels, rd_ratio)
        self.fc1 = Dense(hidden, self.channels, 1, 1, **place)
        self.fc2 = Dense(self.channels, hidden, 1, 1, **place)

    def forward(self, z: Tensor) -> Tensor:
        z = functional.check_values(z, self.channels)
        return self.fc2(torch.relu(self.fc1(z)))

    def zero_gate(self) -> float:
        self.fc1.start("make_alive")
        self.fc2.start("make_zero")
        return 0.0

    def channel_axes(self) -> dict[str, Axes]:
        return {"fc1.weight": 1, "fc2": 0}


class FCSigmoid(FC):
    """`fc` followed by a sigmoid: the text bounds every gate to 0 … 1."""

    def forward(self, z: Tensor) -> Tensor:
        z = functional.check_values(z, self.channels)
        return torch.sigmoid(self.fc2(torch.relu(self.fc1(z))))

    def zero_gate(self) -> float:
        super().zero_gate()
        return 0.5


class Conv1d(Excite):
    """Base: `depth` convolutions of `kernel_size` taps over the channel axis, ReLU between, sigmoid at the end."""

    kernel_size: ClassVar[int]
    depth: ClassVar[int] = 1

    def build(self, size: tuple[int, int], rd_ratio: float, **place: Any) -> None:
        first, *rest = (Filter(1, 1, self.kernel_size, **place) for _ in range(self.depth))
        self.first = first
        self.rest = nn.ModuleList(rest)

    def forward(self, z: Tensor) -> Tensor:
        z = functional.check_values(z, self.channels)
        y = self.first(z.flatten(1)[:, None])
        for layer in self.rest:
            y = layer(torch.relu(y))
        return torch.sigmoid(y)[:, 0, :, None, None]

    def zero_gate(self) -> float:
        layers = [self.first, *self.rest]
        for layer in layers[:-1]:
            layer.start("make_alive")
        layers[-1].start("make_zero")
        return 0.5

    def channel_axes(self) -> dict[str, Axes]:
        return {}


class Conv1dK3(Conv1d):
    """Convolution of 3 taps along C, sigmoid."""

    kernel_size = 3


class Conv1dK5(Conv1d):
    """Convolution of 5 taps along C, sigmoid."""

    kernel_size = 5


class Conv1dK7(Conv1d):
    """Convolution of 7 taps along C, sigmoid."""

    kernel_size = 7


class Conv1dK3x2(Conv1d):
    """Two convolutions of 3 taps along C with a ReLU between, sigmoid."""

    kernel_size = 3
    depth = 2


class Conv1dK3x3(Conv1d):
    """Three convolutions of 3 taps along C with ReLUs between, sigmoid."""

    kernel_size = 3
    depth = 3


class ChannelAffine(Startable, Excite):
    """sigmoid(α·z + β) with α, β per channel, from (1, 0)."""

    def build(self, size: tuple[int, int], rd_ratio: float, **place: Any) -> None:
        self.alpha = nn.Parameter(torch.empty(self.channels, 1, 1, **place))
        self.beta = nn.Parameter(torch.empty(self.channels, 1, 1, **place))
        self.reset_parameters()

    def draw(self) -> None:
        nn.init.ones_(self.alpha)
        nn.init.zeros_(self.beta)

    def forward(self, z: Tensor) -> Tensor:
        z = functional.check_values(z, self.channels)
        return torch.sigmoid(self.alpha.to(z.dtype) * z + self.beta.to(z.dtype))

    def zero_gate(self) -> float:
        self.start("make_zero")
        return 0.5

    def channel_axes(self) -> dict[str, Axes]:
        return {"alpha": 0, "beta": 0}


CHANNEL_EXCITE: dict[str, type[nn.Module]] = {
    "fc": FC,
    "conv1d_k3": Conv1dK3,
    "conv1d_k5": Conv1dK5,
    "conv1d_k7": Conv1dK7,
    "conv1d_k3_x2": Conv1dK3x2,
    "conv1d_k3_x3": Conv1dK3x3,
    "affine": ChannelAffine,
    "fc_sigmoid": FCSigmoid,
}
