"""The modules of recognition: each takes the place of a 3×3 convolution and attends to what it convolves."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sase_attn import statistics
from sase_attn.attention import Attention
from sase_attn.ops.arguments import flag, known, positive, reduced_channels
from sase_attn.ops.layers import BatchNorm2d
from sase_attn.spatially_adaptive.layers import NORMALIZERS, GroupedLinear, MaskLogits, Styles, mixed


def halved(groups: int, channels: int) -> int:
    """`groups`, halved until it divides the channels."""
    while channels % groups:
        groups //= 2
    return groups


@torch.fx.wrap
def pooled(x: Tensor, stride: int) -> Tensor:
    """Means of stride × stride positions, fewer at the right and lower border of odd maps: (B, C, ⌈H/s⌉, ⌈W/s⌉)."""
    return x if stride == 1 else F.avg_pool2d(x, stride, stride, 0, True, False)


class SpatiallyAdaptiveSE(Attention):
    """Grouped 3×3 convolutions, weighed at each position by a softmax over the channels of a group.

    Of each group of c channels, with weights of its own: y = softmax over the c channels of (q·k) · v, with
    q = 3×3 h→c of ReLU(BN(3×3 c→h)), a map; k = 1×1 h→c of ReLU(BN(1×1 c→h of the mean over H, W)), a value a channel;
    v = 3×3 c→c. Groups are concatenated. A stride is average pooling at the end.

    Parameters: `C*(20*h + 9*c + 3) + 16*h`; MACs: `N*C*(18*h + 9*c) + 2*C*h`; c = C/4, h = c/4, at least 4, N = H·W
    of the input. Takes the place of the 3×3 convolution of a bottleneck, before its norm and ReLU.

    Learning Spatially-Adaptive Squeeze-Excitation Networks for Image Synthesis and Image Recognition, arXiv 2112.14804.
    The authors' code has synthesis only. This is the module as an author of the paper adapted it to another network,
    which is older than the paper's last version; whether the paper's own is the same could not be verified. Weights of
    the softmax are 1/c on average, which the norm behind takes away.

    Deviations: groups are grouped convolutions, not a loop; windows of the pooling at the border of odd maps are means
    of the positions that exist, so that shapes agree with timm's shortcuts.

    Args:
        channels: C.
        stride: of the pooling; the output is (B, C, ⌈H/stride⌉, ⌈W/stride⌉).
        groups: halved until they divide C.
        rd_ratio: hidden width h relative to c.
        min_hidden: the least h.

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


class LiteralSpatiallyAdaptiveSE(Attention):
    """Experimental: y = v·(1 + Σ m_k·s_k / (Σ m_k + 1e-6)), a style s_k and a mask m_k of each group k of the same map.

    v = grouped 3×3 convolutions of x; styles and masks are those of `SpatiallyAdaptiveSkip` with x as the source.
    A stride is average pooling at the end.

    Parameters: `9*C*c + C + 4*(2*c*h + 18*h*h + 13*h + 1 + (h + 1)*C)`; MACs: `N*(9*C*c + C*h + 72*h*h + 4*h + 4*C) +
    C*h + 4*h*C`; c = C/4, h = c/4, at least 4, N = H·W of the input. Takes the place of the 3×3 convolution of a
    bottleneck, before its norm and ReLU.

    A reconstruction, of no code: arXiv 2112.14804's abstract read literally, "a latent style vector" and "a latent
    spatial mask" of each group that "modulate the target feature map", for one layer. The widths, the convolution and
    the pooling are those of `SpatiallyAdaptiveSE`. It has not been trained at size.

    Args:
        channels: C.
        stride: of the pooling; the output is (B, C, ⌈H/stride⌉, ⌈W/stride⌉).
        groups: halved until they divide C.
        rd_ratio: hidden width h relative to c.
        min_hidden: the least h.
        dilation: of the 3×3 convolutions of the masks.
        normalize: how masks become weights: "sum" divides sigmoids by their sum, "softmax" is over the groups.
        style_norm: whether there is a norm in the styles, which gives its bias for a batch of one in training.

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
        dilation: int = 1,
        normalize: str = "sum",
        style_norm: bool = True,
        act_layer: object = None,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.channels = positive("channels", channels)
        self.stride = positive("stride", stride)
        groups = halved(positive("groups", groups), channels)
        self.normalize = known("normalize", normalize, NORMALIZERS)
        hidden = max(positive("min_hidden", min_hidden), reduced_channels(channels // groups, rd_ratio))
        norm = flag("style_norm", style_norm)
        self.value = nn.Conv2d(channels, channels, 3, padding=1, groups=groups, device=device, dtype=dtype)
        self.styles = Styles(channels, channels, groups, hidden, norm, device=device, dtype=dtype)
        self.masks = MaskLogits(channels, groups, hidden, positive("dilation", dilation), device=device, dtype=dtype)

    def attend(self, x: Tensor) -> Tensor:
        gate = mixed(self.styles(x), self.masks(x), self.normalize == "softmax")
        y = self.value(x)
        return pooled(y * gate.to(y.dtype), self.stride)
