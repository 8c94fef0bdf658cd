"""`Attention`: what the attentions of the literature share."""

from typing import Any, ClassVar

from torch import Tensor, nn

from sase_attn.channel_axes import ChannelAxes
from sase_attn.ops import functional
from sase_attn.scaled import Scaled


def scale_words(scale: float) -> str:
    """What `extra_repr` adds for an attention whose result is scaled."""
    return "" if scale == 1 else f", scale={scale:g}"


class Attention(Scaled, ChannelAxes):
    """A map (B, C, H, W) of any floating type in, the attended map of the same shape and type out.

    Subclasses take `channels` first, then their own options, then `act_layer` (hosts such as timm's EfficientNet pass
    their activation to every attention; it has an effect only where the docstring says so), `device` and `dtype`. They
    set `channels`, and compute their formula in `attend`. Statistics and the gates made from them are computed in
    float32 for half-precision inputs, unless said otherwise.
    """

    never_constant: ClassVar[str] = "it does not define zero_gates()"
    """Why no values of its parameters make this attention a constant gain, in the words of an error."""

    channels: int
    scale: float
    """What the result is multiplied by; see `sase_attn.attentions.set_gain`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.scale = 1.0

    def forward(self, x: Tensor) -> Tensor:
        """Check the input, attend, and scale.

        Raises:
            ValueError: the input is not (B, channels, H ≥ 1, W ≥ 1) of float16, bfloat16, float32 or float64.
        """
        y = self.attend(functional.check_input(x, self.channels))
        return y if self.scale == 1 else y * self.scale

    def attend(self, x: Tensor) -> Tensor:
        """The formula."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        return f"{getattr(self, 'channels', '')}{scale_words(self.scale)}"

    def zero_gates(self) -> float:
        """Start as a constant gain, and return it.

        Every parameter learns from the second optimiser step on; behind a norm that starts at zero, whose map has no
        gradient for a gate, from the third.

        Raises:
            TypeError: no values of the parameters make this attention a constant gain.
        """
        raise TypeError(f"{type(self).__name__} cannot start as a constant: {self.never_constant}")

    def no_weight_decay(self) -> set[str]:
        """Names of parameters that the paper trains without weight decay."""
        return set()


def no_weight_decay(model: nn.Module) -> set[str]:
    """Names of parameters to train without weight decay: by the model itself, and by the papers of its attentions.

    timm's optimisers ask the model alone, which knows nothing of attention that was attached or put in place of other:
    `create_optimizer_v2(model, …, param_group_fn=lambda model: param_groups_weight_decay(model, 1e-4,
    no_weight_decay_list=no_weight_decay(model)))`.
    """
    own = getattr(model, "no_weight_decay", None)
    return (set() if own is None or isinstance(model, Attention) else set(own())) | undecayed(model)


def undecayed(model: nn.Module) -> set[str]:
    """Those of attentions alone, of the model itself too if it is one."""
    attentions = [
        (f"{name}." if name else "", part) for name, part in model.named_modules() if isinstance(part, Attention)
    ]
    return {prefix + parameter for prefix, attention in attentions for parameter in attention.no_weight_decay()}
