"""`Attention`: the base class of the attentions of the literature."""

from typing import Any, ClassVar

from torch import Tensor, nn

from sase_attn.channel_axes import ChannelAxes
from sase_attn.ops import functional
from sase_attn.scaled import Scaled


def scale_words(scale: float) -> str:
    """The text that `extra_repr` appends for an attention whose result is scaled; empty for a scale of 1."""
    return "" if scale == 1 else f", scale={scale:g}"


class Attention(Scaled, ChannelAxes):
    """Base class: accepts a map (B, C, H, W) of any floating type, returns one of the same shape and type.

    Subclasses take `channels` first, then their own options, then `act_layer` (hosts such as timm's EfficientNet pass
    their activation to every attention; it has an effect only where the docstring says so), `device` and `dtype`. They
    set `channels`, and compute their formula in `attend`. Statistics and the gates made from them are computed in
    float32 for half-precision inputs, unless said otherwise.
    """

    never_constant: ClassVar[str] = "it does not define zero_gates()"
    """The reason, as an error message states it, why no parameter values turn this attention into a constant gain."""

    channels: int
    scale: float
    """The factor that the result is multiplied by; see `sase_attn.attentions.set_gain`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.scale = 1.0

    def forward(self, x: Tensor) -> Tensor:
        """Check the input, compute `attend`, and multiply by `scale`.

        Raises:
            ValueError: the input is not (B, channels, H ≥ 1, W ≥ 1) of float16, bfloat16, float32 or float64.
        """
        y = self.attend(functional.check_input(x, self.channels))
        return y if self.scale == 1 else y * self.scale

    def attend(self, x: Tensor) -> Tensor:
        """Compute the attention's formula; subclasses define it."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        return f"{getattr(self, 'channels', '')}{scale_words(self.scale)}"

    def zero_gates(self) -> float:
        """Set the parameters so that the attention multiplies its map by a constant, and return that constant.

        Every parameter learns from the second optimiser step on. After a norm whose weight starts at zero, it learns
        from the third, because a map of zeros gives a gate no gradient.

        Raises:
            TypeError: no values of the parameters make this attention a constant gain.
        """
        raise TypeError(f"{type(self).__name__} cannot start as a constant: {self.never_constant}")

    def no_weight_decay(self) -> set[str]:
        """Names of parameters that the paper trains without weight decay."""
        return set()


def no_weight_decay(model: nn.Module) -> set[str]:
    """Names of parameters to train without weight decay: those that the model names, and those of its attentions.

    timm's optimisers ask the model alone, which knows nothing of attention that was attached to it or replaced in it:
    `create_optimizer_v2(model, …, param_group_fn=lambda model: param_groups_weight_decay(model, 1e-4,
    no_weight_decay_list=no_weight_decay(model)))`.
    """
    own = getattr(model, "no_weight_decay", None)
    return (set() if own is None or isinstance(model, Attention) else set(own())) | undecayed(model)


def undecayed(model: nn.Module) -> set[str]:
    """The names that the attentions in a model give; the model itself may be an attention."""
    attentions = [
        (f"{name}." if name else "", part) for name, part in model.named_modules() if isinstance(part, Attention)
    ]
    return {prefix + parameter for prefix, attention in attentions for parameter in attention.no_weight_decay()}
