"""Double attention: A²-Nets, arXiv 1810.11579."""

import torch
from torch import Tensor, nn

from sase_attn import statistics
from sase_attn.attention import Attention
from sase_attn.channel_axes import Axes
from sase_attn.ops.arguments import reduced_channels
from sase_attn.ops.op import zero_


class DoubleAttention(Attention):
    """Gathers h·h second-order features of the whole map and distributes them to its positions; adds the result to x.

    With a, b, v three 1×1 convolutions C→h of x: G = Σ over positions p of a_p·softmax over p(b)_pᵀ; y = x + a 1×1
    convolution h→C of G·softmax over h(v).

    Parameters: `4*C*h + 3*h + C`; MACs: `N*(4*C*h + 2*h*h)`; h = C/4, N = H·W. Goes between the blocks of stages 2 and
    3 of the paper's ResNets.

    The last convolution starts at 0, so that the module starts as an identity, also in hosts that re-initialise
    convolutions. Deviation: in the paper, a batch norm follows it, and the scale of that norm starts at 0 instead.

    Args:
        channels: C.
        rd_ratio: h relative to C.
        rd_channels: h itself; overrides `rd_ratio`.

    Raises:
        ValueError: an argument is of the wrong type or out of its range; or, when called, the input is not
            (B, channels, H ≥ 1, W ≥ 1) of float16, bfloat16, float32 or float64.
    """

    def __init__(
        self,
        channels: int,
        rd_ratio: float = 1 / 4,
        rd_channels: int | None = None,
        act_layer: object = None,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        hidden = reduced_channels(channels, rd_ratio, rd_channels)
        self.channels = channels
        self.conv_a = nn.Conv2d(channels, hidden, 1, device=device, dtype=dtype)
        self.conv_b = nn.Conv2d(channels, hidden, 1, device=device, dtype=dtype)
        self.conv_v = nn.Conv2d(channels, hidden, 1, device=device, dtype=dtype)
        self.expand = nn.Conv2d(hidden, channels, 1, device=device, dtype=dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Zero the last layer; to be called once the layers are drawn."""
        self.zero_init_last()

    def attend(self, x: Tensor) -> Tensor:
        features = statistics.upcast(self.conv_a(x)).flatten(2)
        where = torch.softmax(statistics.upcast(self.conv_b(x)).flatten(2), dim=2)
        which = torch.softmax(statistics.upcast(self.conv_v(x)).flatten(2), dim=1)
        gathered = statistics.matmul(features, where.transpose(1, 2))
        distributed = statistics.matmul(gathered, which).to(x.dtype)
        return x + self.expand(distributed.unflatten(2, [x.shape[2], x.shape[3]])).to(x.dtype)

    def zero_init_last(self) -> None:
        """Zero the last layer; timm's ResNet calls it after it has drawn all convolutions anew."""
        zero_(self.expand)

    def zero_gates(self) -> float:
        self.zero_init_last()
        return 1.0

    def channel_axes(self) -> dict[str, Axes]:
        return {"conv_a.weight": 1, "conv_b.weight": 1, "conv_v.weight": 1, "expand": 0}
