"""Constant: a factor without attention, to compare attentions with. Of no paper."""

import torch
from torch import Tensor, nn

from sase_attn.attention import Attention
from sase_attn.channel_axes import Axes
from sase_attn.ops.arguments import above_zero, flag, positive


class Constant(Attention):
    """y = value·x, for a fixed value or a learned one.

    Parameters: `0` (`1` if learned); MACs: `0`. Goes where the attention goes that it is compared with.

    A network whose gates start at a half trains as if with smaller steps, whatever the gates attend to. A constant with
    the same starting gain as an attention shows how much of the attention's effect is only that.

    Args:
        channels: C.
        value: the factor.
        learned: whether training changes it.

    Raises:
        ValueError: an argument is of the wrong type or out of its range; or, when called, the input is not
            (B, channels, H ≥ 1, W ≥ 1) of float16, bfloat16, float32 or float64.
    """

    def __init__(
        self,
        channels: int,
        value: float = 1.0,
        learned: bool = False,
        act_layer: object = None,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.channels = positive("channels", channels)
        self.value = float(above_zero("value", value))
        flag("learned", learned)
        self.factor = nn.Parameter(torch.empty(1, device=device, dtype=dtype)) if learned else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start a learned factor at the value."""
        if self.factor is not None:
            nn.init.constant_(self.factor, self.value)

    def attend(self, x: Tensor) -> Tensor:
        return x * self.value if self.factor is None else x * self.factor.to(x.dtype)

    def zero_gates(self) -> float:
        self.reset_parameters()
        return self.value

    def no_weight_decay(self) -> set[str]:
        return set() if self.factor is None else {"factor"}

    def channel_axes(self) -> dict[str, Axes]:
        return {}
