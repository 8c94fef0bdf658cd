"""The skip module of image synthesis: a map of low resolution modulates one of high resolution."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sase_attn.ops import functional
from sase_attn.ops.arguments import flag, known, multiple, positive
from sase_attn.spatially_adaptive.layers import NORMALIZERS, Styles, mask_logits, mixed
from sase_attn.spatially_adaptive.spectral_norm import add_spectral_norm


@torch.fx.wrap
def check_batches(target: Tensor, source: Tensor) -> Tensor:
    """`target`, if it has as many maps as `source`; otherwise ValueError."""
    if target.shape[0] != source.shape[0]:
        raise ValueError(
            f"target and source must have the same batch size, got {target.shape[0]} and {source.shape[0]}"
        )
    return target


class SpatiallyAdaptiveSkip(nn.Module):
    """y = target·(1 + Σ m_k·s_k / (Σ m_k + 1e-6)), with a style vector s_k and a spatial mask m_k of each group k.

    The channels of the source are split into G groups of c channels, with separate weights for each group:
    s_k = fc2(ReLU(BN(fc1(mean over h, w)))), one value for each channel of the target, unbounded;
    m_k = sigmoid(1×1 c→r, two dilated 3×3 r→r, each with BN and ReLU, 1×1 r→1), at the source's resolution, then
    resized to the target's by nearest neighbours.

    Parameters: `G*(2*c*r + 18*r*r + 13*r + 1 + (r + 1)*Ct)`; c = Cs/G, r = max(min_hidden, ⌊c/reduction⌋), Cs and Ct
    the channels of source and target.

    Learning Spatially-Adaptive Squeeze-Excitation Networks for Image Synthesis and Image Recognition, arXiv 2112.14804.
    This is the module of the authors' code, which is older than the paper's last version (October 2022, when it got
    this title); that they agree could not be verified. In that code: for 256×256 images groups 4, reduction 16,
    dilation 2, spectral norm; for 1024×1024 also dilation 4 at the third skip, and `mask_noise`; for one image
    reduction 1, dilation 5 and 8, no spectral norm, no `style_norm`.

    Deviations, none of which changes the values: the mixture is formed at the source's resolution and resized once,
    instead of G masks that are; groups are grouped convolutions; sizes are those of the maps that come. `normalize`
    "softmax", `min_hidden` and training with a batch of one are additions.

    Args:
        source_channels: Cs, channels of the map of low resolution; a multiple of `groups`.
        target_channels: Ct, channels of the map that is modulated.
        groups: G.
        reduction: factor by which the channels of a group are reduced to the hidden width r.
        dilation: dilation of the 3×3 convolutions.
        mask_noise: add normal noise, the same for all masks, times a learned number that starts at 0, to the masks
            before the sigmoid; drawn in eval mode too, as in the authors' code.
        normalize: how the masks become weights: "sum" divides sigmoids by their sum, "softmax" is over the groups.
        min_hidden: the smallest r.
        style_norm: whether there is a BN in s_k. With a batch of one it returns its bias whatever the image, so leave
            it out there, as the authors do for one image.
        spectral_norm: divide the weights of every layer by their largest singular value; see `add_spectral_norm`, to do
            so after initialising them.

    Raises:
        ValueError: an argument is of the wrong type or out of its range; or, when called, the maps are not
            (B, target_channels, H ≥ 1, W ≥ 1) and (B, source_channels, h ≥ 1, w ≥ 1) of float16, bfloat16, float32 or
            float64.
    """

    def __init__(
        self,
        source_channels: int,
        target_channels: int,
        *,
        groups: int = 4,
        reduction: int = 16,
        dilation: int = 1,
        mask_noise: bool = False,
        normalize: str = "sum",
        min_hidden: int = 1,
        style_norm: bool = True,
        spectral_norm: bool = False,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.source_channels = multiple("source_channels", source_channels, positive("groups", groups))
        self.target_channels = positive("target_channels", target_channels)
        self.normalize = known("normalize", normalize, NORMALIZERS)
        hidden = max(positive("min_hidden", min_hidden), source_channels // groups // positive("reduction", reduction))
        norm = flag("style_norm", style_norm)
        self.styles = Styles(source_channels, target_channels, groups, hidden, norm, device=device, dtype=dtype)
        self.masks = mask_logits(
            source_channels, groups, hidden, positive("dilation", dilation), device=device, dtype=dtype
        )
        noisy = flag("mask_noise", mask_noise)
        self.noise = nn.Parameter(torch.empty(1, device=device, dtype=dtype)) if noisy else None
        self.reset_parameters()
        if flag("spectral_norm", spectral_norm):
            add_spectral_norm(self)

    def reset_parameters(self) -> None:
        """Start without noise."""
        if self.noise is not None:
            nn.init.zeros_(self.noise)

    def forward(self, target: Tensor, source: Tensor) -> Tensor:
        """The target, (B, Ct, H, W), modulated by the source, (B, Cs, h, w)."""
        target = functional.check_input(target, self.target_channels)
        source = functional.check_input(source, self.source_channels)
        target = check_batches(target, source)
        logits = self.masks(source)
        if self.noise is not None:
            logits = logits + self.noise.to(logits.dtype) * torch.randn_like(logits[:, :1])
        style = mixed(self.styles(source), logits, self.normalize == "softmax").to(target.dtype)
        return target * F.interpolate(style, size=[target.shape[2], target.shape[3]], mode="nearest")

    def extra_repr(self) -> str:
        return f"{self.source_channels}, {self.target_channels}, groups={self.styles.groups}"


class SkipLayerExcitation(nn.Module):
    """y = target·sigmoid(1×1 of SiLU of 4×4 of the source pooled to 4×4): the skip of FastGAN, arXiv 2101.04775.

    Parameters: `16*Cs*Ct + Ct*Ct`. It is here for comparison with `SpatiallyAdaptiveSkip`. SiLU and the lack of
    biases are from the authors' code; the paper's text has LeakyReLU.

    Args:
        source_channels: Cs, channels of the map of low resolution.
        target_channels: Ct, channels of the map that is modulated.
        spectral_norm: divide the weights by their largest singular value; see `add_spectral_norm`.

    Raises:
        ValueError: an argument is of the wrong type or out of its range; or, when called, the maps are not
            (B, target_channels, H ≥ 1, W ≥ 1) and (B, source_channels, h ≥ 1, w ≥ 1) of float16, bfloat16, float32 or
            float64.
    """

    def __init__(
        self,
        source_channels: int,
        target_channels: int,
        *,
        spectral_norm: bool = False,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.source_channels = positive("source_channels", source_channels)
        self.target_channels = positive("target_channels", target_channels)
        self.conv1 = nn.Conv2d(source_channels, target_channels, 4, bias=False, device=device, dtype=dtype)
        self.conv2 = nn.Conv2d(target_channels, target_channels, 1, bias=False, device=device, dtype=dtype)
        if flag("spectral_norm", spectral_norm):
            add_spectral_norm(self)

    def forward(self, target: Tensor, source: Tensor) -> Tensor:
        """The target, (B, Ct, H, W), modulated by the source, (B, Cs, h, w)."""
        target = functional.check_input(target, self.target_channels)
        source = functional.check_input(source, self.source_channels)
        target = check_batches(target, source)
        gate = torch.sigmoid(self.conv2(F.silu(self.conv1(F.adaptive_avg_pool2d(source, 4)))))
        return target * gate.to(target.dtype)
