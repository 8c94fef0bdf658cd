"""Spatially-adaptive SE for recognition, arXiv 2112.14804: in the place of a 3×3 convolution."""

import torch
from torch import Tensor, nn

from sase_attn import statistics
from sase_attn.attention import Attention
from sase_attn.channel_axes import Axes
from sase_attn.ops.arguments import positive, reduced_channels
from sase_attn.ops.layers import BatchNorm2d
from sase_attn.spatially_adaptive.layers import GroupedLinear, halved, pooled


class SpatiallyAdaptiveSE(Attention):
    """Grouped 3×3 convolutions, weighted at each position by a softmax over the channels of a group.

    For each group of c channels, with separate weights: y = softmax over the c channels of (q·k) · v, with
    q = 3×3 h→c of ReLU(BN(3×3 c→h)), a map; k = 1×1 h→c of ReLU(BN(1×1 c→h of the mean over H, W)), one value per
    channel; v = 3×3 c→c. Groups are concatenated. A stride is done by average pooling at the end.

    Parameters: `C*(20*h + 9*c + 3) + 16*h`; MACs: `N*C*(18*h + 9*c) + 2*C*h`; c = C/4, h = c/4, at least 4, N = H·W
    of the input. Takes the place of the 3×3 convolution of a bottleneck, before its norm and ReLU.

    Learning Spatially-Adaptive Squeeze-Excitation Networks for Image Synthesis and Image Recognition, arXiv 2112.14804.
    The authors' code has synthesis only. This is the module as an author of the paper adapted it to another network,
    before the paper's last version; whether it equals the paper's own could not be verified. The softmax weights are
    1/c on average, a factor that the norm after the module removes.

    Deviations: groups are grouped convolutions instead of a loop; at the border of odd maps, pooling averages the
    positions that exist, so that shapes agree with timm's shortcuts.

    Args:
        channels: C.
        stride: stride of the pooling; the output is (B, C, ⌈H/stride⌉, ⌈W/stride⌉).
        groups: number of groups, halved until it divides C.
        rd_ratio: hidden width h relative to c.
        min_hidden: the smallest h.

    Raises:
        ValueError: an argument is of the wrong type or out of its range; or, when called, the input is not
            (B, channels, H ≥ 1, W ≥ 1) of float16, bfloat16, float32 or float64.
    """

    never_constant = "it takes the place of a convolution"

    def __init__(
        self,
        channels: int,
        stride: int = 1,
        groups: int = 4,
        rd_ratio: float = 1 / 4,
        min_hidden: int = 4,
        act_layer: object = None,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.channels = positive("channels", channels)
        self.stride = positive("stride", stride)
        self.groups = halved(positive("groups", groups), channels)
        width = channels // self.groups
        hidden = max(positive("min_hidden", min_hidden), reduced_channels(width, rd_ratio))

        def conv(inputs: int, outputs: int, bias: bool = True) -> nn.Conv2d:
            return nn.Conv2d(inputs, outputs, 3, padding=1, groups=self.groups, bias=bias, device=device, dtype=dtype)

        self.query = nn.Sequential(
            conv(channels, self.groups * hidden, bias=False),
            BatchNorm2d(self.groups * hidden, device=device, dtype=dtype),
            nn.ReLU(),
            conv(self.groups * hidden, channels),
        )
        self.key = nn.Sequential(
            GroupedLinear(width, hidden, self.groups, bias=False, device=device, dtype=dtype),
            BatchNorm2d(self.groups * hidden, device=device, dtype=dtype),
            nn.ReLU(),
            GroupedLinear(hidden, width, self.groups, device=device, dtype=dtype),
        )
        self.value = conv(channels, channels)

    def attend(self, x: Tensor) -> Tensor:
        logits = statistics.upcast(self.query(x)) * self.key(statistics.mean(x, [2, 3]))
        weights = torch.softmax(logits.unflatten(1, [self.groups, -1]), dim=2).flatten(1, 2)
        y = self.value(x)
        return pooled(y * weights.to(y.dtype), self.stride)

    def channel_axes(self) -> dict[str, Axes]:
        return {
            "query.0.weight": 1,
            "query.3": 0,
            "key.0.weight": 1,
            "key.3": 0,
            "value.weight": (0, 1),
            "value.bias": 0,
        }

    def channel_groups(self) -> int:
        return self.groups
