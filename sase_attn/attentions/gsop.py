"""GSoP: Global Second-order Pooling Convolutional Networks, arXiv 1811.12006: the channel block of GSoP-Net1."""

import torch
from torch import Tensor, nn

from sase_attn import statistics
from sase_attn.attention import Attention
from sase_attn.attentions.layers import Pointwise
from sase_attn.channel_axes import Axes
from sase_attn.ops.arguments import positive
from sase_attn.ops.layers import BatchNorm2d, draw_as_torch
from sase_attn.ops.op import zero_

_PER_ROW = 4


class RowConv(nn.Module):
    """Four outputs of each row of a (B, d, d) matrix, by weights of that row: (B, 4d, 1, 1)."""

    def __init__(self, width: int, device: torch.device | None = None, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.width = width
        self.weight = nn.Parameter(torch.empty(_PER_ROW * width, 1, 1, width, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(_PER_ROW * width, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights as torch's own layers do."""
        draw_as_torch(self.weight, self.bias)

    def forward(self, rows: Tensor) -> Tensor:
        weight = self.weight.to(rows.dtype).view(self.width, -1, self.width).transpose(1, 2)
        y = statistics.matmul(rows[:, :, None], weight).flatten(1)
        return (y + self.bias.to(y.dtype))[:, :, None, None]


class GSoP(Attention):
    """y = x·sigmoid(fc(row convolution(BN(covariance of d reduced channels)))).

    The d channels are ReLU(BN(1×1 convolution of ReLU(x))). Their covariance is taken over the positions, centred, and
    divided by the number of positions. Each of its rows is a channel of the norm and a group of the convolution d → 4d.

    Parameters: `C*d + d + 2*d + 2*d + 4*d*d + 4*d + 4*d*C + C`; MACs: `N*C*d + N*d*d + 4*d*d + 4*d*C`; d = 128,
    N = H·W. Goes into the last block of each stage, after its last norm; in ResNets the fourth stage then keeps stride
    1, and the reduction of the first stage has stride 2.

    All convolutions have biases. The authors' code also has a spatial path, which GSoP-Net1's figures do not use, and
    which is not here.

    Args:
        channels: C.
        stride: stride of the 1×1 convolution to d channels.
        width: d.

    Raises:
        ValueError: an argument is of the wrong type or out of its range; or, when called, the input is not
            (B, channels, H ≥ 1, W ≥ 1) of float16, bfloat16, float32 or float64.
    """

    def __init__(
        self,
        channels: int,
        stride: int = 1,
        width: int = 128,
        act_layer: object = None,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.channels = positive("channels", channels)
        positive("width", width)
        self.reduce = nn.Conv2d(channels, width, 1, positive("stride", stride), device=device, dtype=dtype)
        self.norm1 = BatchNorm2d(width, device=device, dtype=dtype)
        self.norm2 = BatchNorm2d(width, device=device, dtype=dtype)
        self.row_conv = RowConv(width, device=device, dtype=dtype)
        self.expand = Pointwise(_PER_ROW * width, channels, device=device, dtype=dtype)

    def attend(self, x: Tensor) -> Tensor:
        rows = torch.relu(self.norm1(self.reduce(torch.relu(x)))).flatten(2)
        covariance = self.norm2(statistics.covariance(rows, rows.shape[2])[:, :, :, None])[:, :, :, 0]
        return (x * torch.sigmoid(self.expand(self.row_conv(covariance)))).to(x.dtype)

    def zero_gates(self) -> float:
        zero_(self.expand)
        return 0.5

    def channel_axes(self) -> dict[str, Axes]:
        return {"reduce.weight": 1, "expand": 0}
