"""Att-DARTS: Differentiable Neural Architecture Search for Attention, IJCNN 2020: the attention behind an operation."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from sase_attn.attention import Attention
from sase_attn.attentions.bam import BAM
from sase_attn.attentions.cbam import CBAM
from sase_attn.attentions.double_attention import DoubleAttention
from sase_attn.attentions.gather_excite import GEThetaPlus
from sase_attn.attentions.se import SE
from sase_attn.channel_axes import Axes
from sase_attn.ops.arguments import known, positive

CHOICES: dict[str, Callable[..., nn.Module]] = {
    "identity": lambda channels, **place: nn.Identity(),
    "se": SE,
    "bam": BAM,
    "cbam": CBAM,
    "ge_theta_plus": GEThetaPlus,
    "double_attention": DoubleAttention,
}
"""The attentions that Att-DARTS chooses from, in its order."""


class AttDARTS(Attention):
    """One of six attentions behind an operation of a cell, or the mixture of all from which a search chooses.

    The mixture is Σ softmax(alpha)ᵢ·attentionᵢ(x), where alpha starts at 0. The paper's search found CBAM and double
    attention for normal cells, BAM and CBAM for reduction cells.

    Parameters and MACs: those of the choice; for "mixed", the sum of all and `6` for alpha. Goes after every operation
    of a DARTS cell. The cells themselves are no attention, and are not implemented here.

    Args:
        channels: C.
        choice: a name of `CHOICES`, or "mixed".

    Raises:
        UnknownNameError: no such choice.
        ValueError: an argument is of the wrong type or out of its range; or, when called, the input is not
            (B, channels, H ≥ 1, W ≥ 1) of float16, bfloat16, float32 or float64.
    """

    never_constant = "a mixture of attentions has no common constant"

    def __init__(
        self,
        channels: int,
        choice: str = "cbam",
        act_layer: object = None,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.channels = positive("channels", channels)
        known("choice of Att-DARTS", choice, [*CHOICES, "mixed"])
        place: dict[str, Any] = {"device": device, "dtype": dtype}
        names = list(CHOICES) if choice == "mixed" else [choice]
        self.alpha = nn.Parameter(torch.empty(len(names), device=device, dtype=dtype)) if choice == "mixed" else None
        self.attentions = nn.ModuleList(CHOICES[name](channels, **place) for name in names)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start a mixture with equal weights."""
        if self.alpha is not None:
            nn.init.zeros_(self.alpha)

    def attend(self, x: Tensor) -> Tensor:
        outputs = [attention(x) for attention in self.attentions]
        if self.alpha is None:
            return outputs[0]
        weights = torch.softmax(self.alpha, dim=0).to(x.dtype)
        return torch.stack([weight * y for weight, y in zip(weights, outputs, strict=True)]).sum(0)

    def zero_gates(self) -> float:
        if self.alpha is not None:
            return super().zero_gates()
        (attention,) = self.attentions
        return attention.zero_gates() if isinstance(attention, Attention) else 1.0

    def channel_axes(self) -> dict[str, Axes]:
        return {}
