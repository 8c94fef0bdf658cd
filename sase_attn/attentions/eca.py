"""ECA: Efficient Channel Attention, arXiv 1910.03151. The module is timm's."""

from typing import Any

import torch
from timm.layers import EcaModule

from sase_attn.attentions.attention import Attention
from sase_attn.ops.op import positive, zero_


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
        ValueError: `channels` is not positive, or `kernel_size` is not odd.
    """

    def __init__(
        self,
        channels: int,
        kernel_size: int | None = None,
        act_layer: object = None,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if kernel_size is not None and kernel_size % 2 != 1:
            raise ValueError(f"kernel_size must be odd, got {kernel_size}")
        place: dict[str, Any] = {"device": device, "dtype": dtype}
        positive("channels", channels)
        # timm's argument `channels` only chooses the adaptive kernel.
        super().__init__(channels if kernel_size is None else None, kernel_size or 3, **place)

    def zero_gates(self) -> float:
        zero_(self.get_submodule("conv"))
        return 0.5
