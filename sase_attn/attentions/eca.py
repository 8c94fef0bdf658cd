"""ECA: Efficient Channel Attention, arXiv 1910.03151. The layers are timm's."""

from typing import Any

import torch
from timm.layers import EcaModule
from torch import Tensor

from sase_attn.attention import Attention
from sase_attn.channel_axes import Axes
from sase_attn.ops.arguments import odd, positive
from sase_attn.ops.op import zero_


class ECA(Attention, EcaModule):
    """y = x·sigmoid(convolution of k taps along C of the mean of x over H, W).

    Parameters: `k`; MACs: `C*k`; k adaptive, the odd number from |log₂C + 1|/2: 5 for C = 256, 7 for 2048. Goes after
    the last norm of a residual branch.

    The released ImageNet networks do not use the adaptive size but 3, 5, 5, 7 (ResNet-50) and 3, 3, 5, 7 (ResNet-101)
    for the four stages, which is what the models `eca_resnet50` and `eca_resnet101` have. The gate is computed in the
    type of x.

    Args:
        channels: C.
        kernel_size: k, odd; adaptive where None.

    Raises:
        ValueError: an argument is of the wrong type or out of its range; or, when called, the input is not
            (B, channels, H ≥ 1, W ≥ 1) of float16, bfloat16, float32 or float64.
    """

    def __init__(
        self,
        channels: int,
        kernel_size: int | None = None,
        act_layer: object = None,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        place: dict[str, Any] = {"device": device, "dtype": dtype}
        positive("channels", channels)
        # timm uses its argument `channels` only to choose the adaptive kernel size.
        if kernel_size is None:
            super().__init__(channels, **place)
        else:
            super().__init__(None, odd("kernel_size", kernel_size), **place)
        self.channels = channels

    def attend(self, x: Tensor) -> Tensor:
        y = self.gate(self.conv(x.mean((2, 3)).unsqueeze(1)))  # type: ignore[operator]
        return x * y[:, 0, :, None, None]

    def zero_gates(self) -> float:
        zero_(self.get_submodule("conv"))
        return 0.5

    def channel_axes(self) -> dict[str, Axes]:
        return {}
