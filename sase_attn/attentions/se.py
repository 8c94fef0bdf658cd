"""SE: Squeeze-and-Excitation Networks, arXiv 1709.01507. The layers are timm's."""

from typing import Any

import torch
from timm.layers import SEModule, get_act_layer
from torch import Tensor, nn

from sase_attn.attention import Attention
from sase_attn.channel_axes import Axes
from sase_attn.ops.arguments import flag, positive, reduced_channels
from sase_attn.ops.op import zero_


class SE(Attention, SEModule):
    """y = x·sigmoid(fc2(ReLU(fc1(mean of x over H, W)))).

    Parameters: `2*C*h + h + C` (`2*C*h` without biases); MACs: `2*C*h`; h = C/16. Goes after the last norm of a
    residual branch, before the shortcut is added.

    This is timm's `SEModule` with two defaults from the paper: the width is C/16, not rounded to multiples of 8, and
    there are biases (`bias=False` is common in other ports). The gate is computed in the type of x.

    Args:
        channels: C.
        rd_ratio: width of the hidden layer relative to C.
        rd_channels: that width itself; overrides `rd_ratio`.
        rd_divisor: round that width to a multiple, as timm does with 8.
        bias: whether both layers have biases.
        act_layer: activation of the hidden layer.
        gate_layer: activation of the output, a class or a name that timm knows.

    Raises:
        ValueError: an argument is of the wrong type or out of its range; or, when called, the input is not
            (B, channels, H ≥ 1, W ≥ 1) of float16, bfloat16, float32 or float64.
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
        reduced_channels(channels, rd_ratio, rd_channels)
        super().__init__(
            positive("channels", channels),
            rd_ratio,
            rd_channels,
            positive("rd_divisor", rd_divisor),
            bias=flag("bias", bias),
            act_layer=nn.ReLU if act_layer is None else act_layer,
            gate_layer=_known_layer(gate_layer),
            **place,
        )
        self.channels = channels

    def attend(self, x: Tensor) -> Tensor:
        return x * self.gate(self.fc2(self.act(self.fc1(x.mean((2, 3), keepdim=True)))))  # type: ignore[operator]

    def zero_gates(self) -> float:
        zero_(self.get_submodule("fc2"))
        return float(self.get_submodule("gate")(torch.zeros(1, device="cpu")))

    def channel_axes(self) -> dict[str, Axes]:
        return {"fc1.weight": 1, "fc2": 0}


def _known_layer(layer: str | type[nn.Module]) -> str | type[nn.Module]:
    """A class, or a name that timm knows; otherwise ValueError."""
    try:
        known = isinstance(layer, type) or (isinstance(layer, str) and get_act_layer(layer) is not None)
    except KeyError:
        known = False
    if not known:
        raise ValueError(f"gate_layer must be a class of modules or a name such as 'hard_sigmoid', got {layer!r}")
    return layer
