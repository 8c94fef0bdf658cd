"""HOGA: the high-order group attention that Auto Learning Attention (AutoLA, NeurIPS 2020) found on CIFAR-10."""

from typing import Any

import torch
from torch import Tensor, nn

from sase_attn.attention import Attention
from sase_attn.attentions.cbam import CBAM
from sase_attn.attentions.se import SE
from sase_attn.channel_axes import Axes
from sase_attn.kernels import reader
from sase_attn.ops.arguments import multiple, reduced_channels
from sase_attn.ops.layers import BatchNorm2d
from sase_attn.ops.op import zero_


def _chain(width: int, outputs: int, dilation: int = 1, twice: bool = True, **place: Any) -> nn.Sequential:
    """Depthwise 3×3, 1×1, BN; if `twice`, two of these with a ReLU between. `outputs` is the width of the last 1×1."""
    middle = width if twice else outputs
    depthwise: dict[str, Any] = {"groups": width, "bias": False, **place}
    chain = nn.Sequential()
    chain.dw1 = nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation, **depthwise)
    chain.pw1 = nn.Conv2d(width, middle, 1, bias=False, **place)
    chain.norm1 = BatchNorm2d(middle, **place)
    if twice:
        chain.act = nn.ReLU()
        chain.dw2 = nn.Conv2d(width, width, 3, padding=1, **depthwise)
        chain.pw2 = nn.Conv2d(width, outputs, 1, bias=False, **place)
        chain.norm2 = BatchNorm2d(outputs, **place)
    return chain


class AutoLA(Attention):
    """Four groups of channels as the nodes of a graph of attentions, mixed by 1×1 convolutions, added to x, and an SE.

    With C in quarters s₁ … s₄: n₁ = s₁; n₂ = spatial(s₂) + sep(n₁); n₃ = cbam(s₃) + n₂ + sep(n₁);
    n₄ = sep(s₄) + n₁ + sep(n₃) + dil(n₂); y = SE(x + mix([n₁, n₂, n₃, n₄, SE(s₁ + s₂ + s₃ + s₄)])).
    sep and dil gate by the sigmoid of separable and dilated (2) 3×3 convolutions, spatial by that of a separable one of
    [max, mean] over C, cbam has ratio 4, mix is 1×1 5C/4→C, BN, ReLU, 1×1 C→C, BN.

    Parameters: `9*q*q + 99*q + 148 + 2*q*(q//4) + q//4 + q + 2*q*(q//8) + 2*C*(C//8) + 5*q*C + C*C + 4*C`; MACs:
    `N*(9*q*q + 81*q + 42 + 98 + 5*q*C + C*C) + 4*q*(q//4) + 2*q*(q//8) + 2*C*(C//8)`; q = C/4, N = H·W. Goes after
    the 3×3 convolution of a bottleneck and its norm, at the inner width, which alone agrees with the published size; in
    basic blocks after the last norm.

    As in the authors' code, both SE have ratio 1/8 and no biases; 1/16 fits the published parameters better (29.41M
    against 29.39M).

    Args:
        channels: C, a multiple of 4.
        rd_ratio: hidden width of both SE relative to their widths C/4 and C.

    Raises:
        ValueError: `channels` is no multiple of 4, or another argument is wrong; or, when called, the input is not
            (B, channels, H ≥ 1, W ≥ 1) of float16, bfloat16, float32 or float64.
    """

    def __init__(
        self,
        channels: int,
        rd_ratio: float = 1 / 8,
        act_layer: object = None,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        multiple("channels", channels, 4)
        place: dict[str, Any] = {"device": device, "dtype": dtype}
        self.channels, width = channels, channels // 4
        self.sepgate = _chain(2, 1, **place)
        self.sepconv_a = _chain(width, width, **place)
        self.cbam = CBAM(width, rd_channels=max(1, width // 4), **place)
        self.sepconv_b = _chain(width, width, **place)
        self.sepconv_c = _chain(width, width, **place)
        self.sepconv_d = _chain(width, width, **place)
        self.dilconv = _chain(width, width, dilation=2, twice=False, **place)
        self.se_sum = SE(width, rd_channels=reduced_channels(width, rd_ratio), bias=False, **place)
        self.se_out = SE(channels, rd_channels=reduced_channels(channels, rd_ratio), bias=False, **place)
        self.tail = nn.Sequential()
        self.tail.conv1 = nn.Conv2d(5 * width, channels, 1, bias=False, **place)
        self.tail.norm1 = BatchNorm2d(channels, **place)
        self.tail.act = nn.ReLU()
        self.tail.conv2 = nn.Conv2d(channels, channels, 1, bias=False, **place)
        self.tail.norm2 = BatchNorm2d(channels, **place)

    def attend(self, x: Tensor) -> Tensor:
        width = self.channels // 4
        s1, s2, s3, s4 = x[:, :width], x[:, width : 2 * width], x[:, 2 * width : 3 * width], x[:, 3 * width :]
        pooled = torch.cat(reader.statistics_of(s2, ["maximum", "mean"], [1]), dim=1).to(x.dtype)
        n2 = s2 * torch.sigmoid(self.sepgate(pooled)) + s1 * torch.sigmoid(self.sepconv_a(s1))
        n3 = self.cbam(s3) + n2 + s1 * torch.sigmoid(self.sepconv_b(s1))
        n4 = s4 * torch.sigmoid(self.sepconv_c(s4)) + s1
        n4 = n4 + n3 * torch.sigmoid(self.sepconv_d(n3)) + n2 * torch.sigmoid(self.dilconv(n2))
        mixed = self.tail(torch.cat([s1, n2, n3, n4, self.se_sum(s1 + s2 + s3 + s4)], dim=1))
        return self.se_out(x + mixed)

    def zero_gates(self) -> float:
        zero_(self.get_submodule("tail.norm2"))
        return self.se_out.zero_gates()

    def channel_axes(self) -> dict[str, Axes]:
        axes: dict[str, Axes] = {"tail.conv1": (0, 1), "tail.norm1": 0, "tail.conv2": (0, 1), "tail.norm2": 0}
        for name in ("sepconv_a", "sepconv_b", "sepconv_c", "sepconv_d", "dilconv"):
            for layer, _ in self.get_submodule(name).named_children():
                axes[f"{name}.{layer}"] = (0, 1) if layer.startswith("pw") else 0
        return axes

    def channel_groups(self) -> int:
        return 4
