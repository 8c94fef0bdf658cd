"""Build new attention from the parameters of the old one, where that is possible."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import nn

from sase_attn.attention import Attention
from sase_attn.attentions.registry import ATTENTIONS
from sase_attn.genotype import Genotype
from sase_attn.insert.gain import own_scale
from sase_attn.insert.squeeze_excite import describe_se


def class_of(attention: object) -> Any:
    """The class or function that an argument `with_` of `replace` stands for; None for a name of no attention."""
    if isinstance(attention, str):
        return ATTENTIONS.get(attention)
    return class_of(attention.func) if isinstance(attention, partial) else attention


def can_keep(name: str, module: nn.Module, with_: object, new_class: Any, keep_weights: bool | None) -> bool:
    """Whether weights are kept, by default if possible. Raises TypeError if they are required and it is impossible."""
    if keep_weights is False:
        return False
    able = hasattr(new_class, "from_squeeze_excite")
    if keep_weights and not able:
        label = repr(with_) if isinstance(with_, str | Genotype) else getattr(with_, "__name__", repr(with_))
        able_ones = [key for key, cls in ATTENTIONS.items() if hasattr(cls, "from_squeeze_excite")]
        raise TypeError(
            f"{label} cannot take over the weights of {name} ({type(module).__name__}): pass keep_weights=False to "
            f"start it anew, or one of {', '.join(able_ones)} to keep them"
        )
    if keep_weights and describe_se(module) is None:
        raise TypeError(
            f"{name} ({type(module).__name__}) is no known squeeze-and-excitation, whose weights alone can be kept: "
            "pass keep_weights=False"
        )
    return able and describe_se(module) is not None


def with_weights(name: str, module: nn.Module, new_class: Any, attn_args: Mapping[str, Any]) -> nn.Module:
    """The new attention, built from the old one's own layers: with the same parameters, keys and modes."""
    new: nn.Module = new_class.from_squeeze_excite(describe_se(module), **attn_args)
    before, after = module.state_dict().keys(), new.state_dict().keys()
    if before != after:
        raise ValueError(
            f"{new_class.__name__} does not keep the weights of {name} ({type(module).__name__}): its state dict has "
            f"{sorted(after)}, wanted {sorted(before)}; pass keep_weights=False"
        )
    if isinstance(new, Attention):
        new.scale = own_scale(module)
    reused = set(module.modules())
    for part in new.modules():
        if part not in reused:
            part.training = module.training
    return new
