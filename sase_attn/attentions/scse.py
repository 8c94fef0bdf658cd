"""scSE: Concurrent Spatial and Channel Squeeze & Excitation, arXiv 1803.02579."""

import torch
from torch import Tensor

from sase_attn import statistics
from sase_attn.attention import Attention
from sase_attn.attentions.layers import Pointwise
from sase_attn.channel_axes import Axes
from sase_attn.ops.arguments import reduced_channels
from sase_attn.ops.op import zero_


class ScSE(Attention):
    """y = max(x·sigmoid(fc2(ReLU(fc1(mean over H, W)))), x·sigmoid(1×1 convolution C→1)), element by element.

    Parameters: `2*C*h + h + C + C + 1`; MACs: `2*C*h + N*C`; h = C/2, N = H·W. Goes after encoder and decoder blocks of
    segmentation networks.

    The maximum is that of the authors' code; common ports add the two.

    Args:
        channels: C.
        rd_ratio: hidden width relative to C.
        rd_channels: that width itself; overrides `rd_ratio`.

    Raises:
        ValueError: an argument is of the wrong type or out of its range; or, when called, the input is not
            (B, channels, H ≥ 1, W ≥ 1) of float16, bfloat16, float32 or float64.
    """

    def __init__(
        self,
        channels: int,
        rd_ratio: float = 1 / 2,
        rd_channels: int | None = None,
        act_layer: object = None,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        hidden = reduced_channels(channels, rd_ratio, rd_channels)
        self.channels = channels
        self.fc1 = Pointwise(channels, hidden, device=device, dtype=dtype)
        self.fc2 = Pointwise(hidden, channels, device=device, dtype=dtype)
        self.conv = Pointwise(channels, 1, device=device, dtype=dtype)

    def attend(self, x: Tensor) -> Tensor:
        channel = torch.sigmoid(self.fc2(torch.relu(self.fc1(statistics.mean(x, [2, 3])))))
        spatial = torch.sigmoid(self.conv(x))
        return torch.maximum(x * channel, x * spatial.to(channel.dtype)).to(x.dtype)

    def zero_gates(self) -> float:
        zero_(self.fc2)
        zero_(self.conv)
        return 0.5

    def channel_axes(self) -> dict[str, Axes]:
        return {"fc1.weight": 1, "fc2": 0, "conv.weight": 1}
