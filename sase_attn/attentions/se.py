"""SE: Squeeze-and-Excitation Networks, arXiv 1709.01507. The module is timm's."""

from typing import Any

import torch
from timm.layers import SEModule
from torch import nn

from sase_attn.attentions.attention import Attention
from sase_attn.ops.op import positive, zero_


class SE(Attention, SEModule):
    """y = x·sigmoid(fc2(ReLU(fc1(mean of x over H, W)))).

    Parameters: `2*C*h + h + C` (`2*C*h` without biases); MACs: `2*C*h`; h = C/16. Goes after the last norm of a
    residual branch, before the shortcut is added.

    timm's `SEModule` with two defaults of the paper: the width is C/16, not rounded to multiples of 8, and there are
    biases (`bias=False` is common in other ports). The gate is computed in the type of x.

    Args:
        channels: C.
        rd_ratio: width of the hidden layer relative to C.
        rd_channels: that width itself; overrides `rd_ratio`.
        rd_divisor: round that width to a multiple, as timm does with 8.
        bias: whether both layers have biases.
        act_layer: activation of the hidden layer.
        gate_layer: the gate.

    Raises:
        ValueError: `channels` is not positive.
    """

    def __init__(
        self,
        channels: int,
        rd_ratio: float = 1 / 16,
        rd_channels: int | None = None,
        rd_divisor: int = 1,
        bias: bool = True,
        act_layer: type[nn.Module] | None = None,
        gate_layer: str | type[nn.Module] = "sigmoid",
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        place: dict[str, Any] = {"device": device, "dtype": dtype}
        super().__init__(
            positive("channels", channels),
            rd_ratio,
            rd_channels,
            rd_divisor,
            bias=bias,
            act_layer=nn.ReLU if act_layer is None else act_layer,
            gate_layer=gate_layer,
            **place,
        )

    def zero_gates(self) -> float:
        zero_(self.get_submodule("fc2"))
        return float(self.get_submodule("gate")(torch.zeros(1)))
