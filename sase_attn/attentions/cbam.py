"""CBAM: Convolutional Block Attention Module, arXiv 1807.06521."""

import torch
from torch import Tensor

from sase_attn.attention import Attention
from sase_attn.attentions.layers import Pointwise
from sase_attn.channel_axes import Axes
from sase_attn.kernels import reader
from sase_attn.ops.arguments import odd, reduced_channels
from sase_attn.ops.layers import BatchNorm2d, Filter
from sase_attn.ops.op import zero_


class CBAM(Attention):
    """A channel gate from mean and maximum over H, W, then a spatial gate from maximum and mean over C.

    x₁ = x·sigmoid(mlp(mean) + mlp(max)), mlp = fc2∘ReLU∘fc1; y = x₁·sigmoid(BN(k×k convolution of [max, mean] of x₁)).

    Parameters: `2*C*h + h + C + 2*k*k + 2`; MACs: `4*C*h + 2*k*k*N`; h = C/16, k = 7, N = H·W. Goes after the last norm
    of a residual branch.

    As in the authors' code, both layers of the mlp have biases, and the convolution has a batch norm (momentum 0.01)
    instead of a bias. That norm's weight starts at 0, so that the spatial gate starts at 0.5. The paper's text has no
    norm.

    Args:
        channels: C.
        rd_ratio: width of the mlp relative to C.
        rd_channels: that width itself; overrides `rd_ratio`.
        kernel_size: k, odd.

    Raises:
        ValueError: an argument is of the wrong type or out of its range; or, when called, the input is not
            (B, channels, H ≥ 1, W ≥ 1) of float16, bfloat16, float32 or float64.
    """

    def __init__(
        self,
        channels: int,
        rd_ratio: float = 1 / 16,
        rd_channels: int | None = None,
        kernel_size: int = 7,
        act_layer: object = None,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        odd("kernel_size", kernel_size)
        hidden = reduced_channels(channels, rd_ratio, rd_channels)
        self.channels = channels
        self.fc1 = Pointwise(channels, hidden, device=device, dtype=dtype)
        self.fc2 = Pointwise(hidden, channels, device=device, dtype=dtype)
        self.conv = Filter(1, 2, kernel_size, kernel_size, device=device, dtype=dtype)
        self.norm = BatchNorm2d(1, momentum=0.01, device=device, dtype=dtype)
        self.norm.start("make_zero")

    def attend(self, x: Tensor) -> Tensor:
        mean, largest = reader.statistics_of(x, ["mean", "maximum"], [2, 3])
        x = (x * torch.sigmoid(self._mlp(mean) + self._mlp(largest))).to(x.dtype)
        pooled = torch.cat(reader.statistics_of(x, ["maximum", "mean"], [1]), dim=1)
        return (x * torch.sigmoid(self.norm(self.conv(pooled)))).to(x.dtype)

    def _mlp(self, z: Tensor) -> Tensor:
        return self.fc2(torch.relu(self.fc1(z)))

    def zero_gates(self) -> float:
        zero_(self.fc2)
        zero_(self.norm)
        return 0.25

    def channel_axes(self) -> dict[str, Axes]:
        return {"fc1.weight": 1, "fc2": 0}
