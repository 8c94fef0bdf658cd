"""Experimental: a style and a mask of each group in one layer, arXiv 2112.14804's abstract read literally."""

import torch
from torch import Tensor, nn

from sase_attn.attention import Attention
from sase_attn.channel_axes import Axes
from sase_attn.ops.arguments import flag, known, positive, reduced_channels
from sase_attn.spatially_adaptive.layers import NORMALIZERS, Styles, halved, mask_logits, mixed, pooled


class LiteralSpatiallyAdaptiveSE(Attention):
    """Experimental: y = v·(1 + Σ m_k·s_k / (Σ m_k + 1e-6)), with a style s_k and a mask m_k of each group k of one map.

    v = grouped 3×3 convolutions of x; styles and masks are those of `SpatiallyAdaptiveSkip` with x as the source.
    A stride is done by average pooling at the end.

    Parameters: `9*C*c + C + 4*(2*c*h + 18*h*h + 13*h + 1 + (h + 1)*C)`; MACs: `N*(9*C*c + C*h + 72*h*h + 4*h + 4*C) +
    C*h + 4*h*C`; c = C/4, h = c/4, at least 4, N = H·W of the input. Takes the place of the 3×3 convolution of a
    bottleneck, before its norm and ReLU.

    This is a reconstruction, for which no code was found. It reads arXiv 2112.14804's abstract literally, in one layer:
    "a latent style vector" and "a latent spatial mask" of each group "modulate the target feature map". The widths, the
    convolution and the pooling are those of `SpatiallyAdaptiveSE`. It has not been trained on large data.

    Args:
        channels: C.
        stride: stride of the pooling; the output is (B, C, ⌈H/stride⌉, ⌈W/stride⌉).
        groups: number of groups, halved until it divides C.
        rd_ratio: hidden width h relative to c.
        min_hidden: the smallest h.
        dilation: dilation of the 3×3 convolutions of the masks.
        normalize: how masks become weights: "sum" divides sigmoids by their sum, "softmax" is over the groups.
        style_norm: whether the styles have a batch norm, which for a batch of one in training returns its bias.

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
        self.masks = mask_logits(channels, groups, hidden, positive("dilation", dilation), device=device, dtype=dtype)

    def attend(self, x: Tensor) -> Tensor:
        gate = mixed(self.styles(x), self.masks(x), self.normalize == "softmax")
        y = self.value(x)
        return pooled(y * gate.to(y.dtype), self.stride)

    def channel_axes(self) -> dict[str, Axes]:
        return {
            "value.weight": (0, 1),
            "value.bias": 0,
            "styles.fc1.weight": 1,
            "styles.fc2": 0,
            "masks.0.weight": 1,
        }

    def channel_groups(self) -> int:
        return self.styles.groups
