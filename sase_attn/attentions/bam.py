"""BAM: Bottleneck Attention Module, arXiv 1807.06514."""

import torch
from torch import Tensor, nn

from sase_attn import statistics
from sase_attn.attention import Attention
from sase_attn.attentions.layers import Pointwise
from sase_attn.channel_axes import Axes
from sase_attn.ops.arguments import positive, reduced_channels
from sase_attn.ops.layers import BatchNorm2d
from sase_attn.ops.op import zero_


class BAM(Attention):
    """y = x·(1 + sigmoid(M_c·M_s)) with a channel map M_c (B, C, 1, 1) and a spatial map M_s (B, 1, H, W).

    M_c = fc2(ReLU(BN(fc1(mean over H, W)))); M_s = 1×1 C→h, two dilated 3×3, each with BN and ReLU, then 1×1 h→1.

    Parameters: `3*C*h + C + 18*h*h + 13*h + 1`; MACs: `2*C*h + N*(C*h + 18*h*h + h)`; h = C/16, N = H·W. Goes after
    stages 1, 2 and 3 of a ResNet, not into its blocks.

    This follows the authors' code, which multiplies the two maps and has no norm after their last layers; in the
    paper's text both are normalised, and added.

    Args:
        channels: C.
        rd_ratio: hidden width relative to C.
        rd_channels: that width itself; overrides `rd_ratio`.
        dilation: dilation of the 3×3 convolutions.

    Raises:
        ValueError: an argument is of the wrong type or out of its range; or, when called, the input is not
            (B, channels, H ≥ 1, W ≥ 1) of float16, bfloat16, float32 or float64.
    """

    def __init__(
        self,
        channels: int,
        rd_ratio: float = 1 / 16,
        rd_channels: int | None = None,
        dilation: int = 4,
        act_layer: object = None,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        hidden = reduced_channels(channels, rd_ratio, rd_channels)
        pad = positive("dilation", dilation)
        self.channels = channels
        self.fc1 = Pointwise(channels, hidden, device=device, dtype=dtype)
        self.norm1 = BatchNorm2d(hidden, device=device, dtype=dtype)
        self.fc2 = Pointwise(hidden, channels, device=device, dtype=dtype)
        self.reduce = nn.Conv2d(channels, hidden, 1, device=device, dtype=dtype)
        self.norm2 = BatchNorm2d(hidden, device=device, dtype=dtype)
        self.conv1 = nn.Conv2d(hidden, hidden, 3, padding=pad, dilation=dilation, device=device, dtype=dtype)
        self.norm3 = BatchNorm2d(hidden, device=device, dtype=dtype)
        self.conv2 = nn.Conv2d(hidden, hidden, 3, padding=pad, dilation=dilation, device=device, dtype=dtype)
        self.norm4 = BatchNorm2d(hidden, device=device, dtype=dtype)
        self.expand = nn.Conv2d(hidden, 1, 1, device=device, dtype=dtype)

    def attend(self, x: Tensor) -> Tensor:
        channel = self.fc2(torch.relu(self.norm1(self.fc1(statistics.mean(x, [2, 3])))))
        spatial = torch.relu(self.norm2(self.reduce(x)))
        spatial = torch.relu(self.norm3(self.conv1(spatial)))
        spatial = self.expand(torch.relu(self.norm4(self.conv2(spatial))))
        return (x * (1 + torch.sigmoid(channel * spatial))).to(x.dtype)

    def zero_gates(self) -> float:
        zero_(self.fc2)  # only one of the two factors: with both at zero, neither would have a gradient
        return 1.5

    def channel_axes(self) -> dict[str, Axes]:
        return {"fc1.weight": 1, "fc2": 0, "reduce.weight": 1}
