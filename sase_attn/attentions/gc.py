"""GC: GCNet, Non-local Networks Meet Squeeze-Excitation Networks, arXiv 1904.11492. The layers are timm's."""

from typing import Any

import torch
from timm.layers import GlobalContext
from torch import Tensor, nn

from sase_attn.attention import Attention
from sase_attn.channel_axes import Axes
from sase_attn.ops.arguments import reduced_channels
from sase_attn.ops.op import zero_


class GC(Attention, GlobalContext):
    """y = x + fc2(ReLU(LayerNorm(fc1(Σ over positions of softmax(1×1 convolution C→1)·x)))).

    Parameters: `C + 1 + 2*C*h + 3*h + C`; MACs: `2*N*C + 2*C*h`; h = C/16, N = H·W. Goes after the last norm of a
    residual branch, in stages 2 to 4 of the paper's ResNets.

    This is timm's `GlobalContext` with the paper's options: it adds (timm's own "gc" multiplies), with ratio 1/16. fc2
    starts at 0, also in hosts that re-initialise convolutions, so that the module starts as an identity. The layer
    norm's eps is timm's, 1e-6. Everything is computed in the type of x.

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
        rd_ratio: float = 1 / 16,
        rd_channels: int | None = None,
        act_layer: object = None,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        place: dict[str, Any] = {"device": device, "dtype": dtype}
        hidden = reduced_channels(channels, rd_ratio, rd_channels)
        super().__init__(channels, fuse_add=True, fuse_scale=False, rd_channels=hidden, act_layer=nn.ReLU, **place)
        self.channels = channels

    def reset_parameters(self) -> None:
        """Draw `conv_attn` as timm does, and zero the last layer; to be called once the layers are drawn."""
        super().reset_parameters()
        self.zero_init_last()

    def attend(self, x: Tensor) -> Tensor:
        where = self.conv_attn(x).flatten(2)  # type: ignore[operator]
        where = torch.softmax(where, dim=-1).unsqueeze(3)  # (B, 1, N, 1)
        context = torch.matmul(x.flatten(2).unsqueeze(1), where)  # (B, 1, C, 1)
        return x + self.mlp_add(context.transpose(1, 2))  # type: ignore[operator]

    def zero_init_last(self) -> None:
        """Zero the last layer; timm's ResNet calls it after it has drawn all convolutions anew."""
        zero_(self.get_submodule("mlp_add.fc2"))

    def zero_gates(self) -> float:
        self.zero_init_last()
        return 1.0

    def channel_axes(self) -> dict[str, Axes]:
        return {"conv_attn.weight": 1, "mlp_add.fc1.weight": 1, "mlp_add.fc2": 0}
