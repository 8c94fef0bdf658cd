"""The gains that weights were trained with, given to a network that was made without asking for one."""

import timm
from torch import nn

from sase_attn.attentions.starting_gain import PUBLISHED, can_scale
from sase_attn.insert.attached import Attached
from sase_attn.insert.gain import scale_of
from sase_attn.weights.genotypes import SCALE, attentions_of, fields_of, fixed_factor, parsed

_ARGUMENT = "gain"


def asked_gain(model: nn.Module) -> str | float | None:
    """The gain that a network of timm's registry was asked for, if any."""
    return (getattr(model, "_model_args", None) or {}).get(_ARGUMENT)


def take_unasked_gains(record: str | None, model: nn.Module, *, source: str) -> None:
    """Give a network the gains of weights, by their record, if its maker asked for none and its attentions have none.

    Raises:
        ValueError: the record is damaged.
    """
    unscaled = all(scale_of(*pair) == 1 for pair in attentions_of(model).values())
    if record is not None and hasattr(model, "_model_args") and asked_gain(model) is None and unscaled:
        take_gains(record, model, source=source)


def take_gains(record: str | None, model: nn.Module, *, source: str) -> None:
    """Give a network the gains of weights, by their record; those of the papers if they have none.

    Raises:
        ValueError: the record is damaged.
    """
    attentions = attentions_of(model)
    saved = "" if record is None else parsed(record, source, attentions)
    for name, (holder, attn) in attentions.items():
        text = saved if isinstance(saved, str) else saved.get(name, "")
        scale = float(fields_of(text).get(SCALE, "1")) / (fixed_factor(attn) if SCALE in fields_of(text) else 1)
        if can_scale(attn):
            attn.scale = scale  # type: ignore[assignment]
        elif isinstance(holder, Attached):
            holder.scale = scale
    remember_gain(model)


def remember_gain(model: nn.Module) -> None:
    """Note the gain that was divided out of a model of this package among the arguments that rebuild it.

    Where attentions have different ones no argument says them, and the model cannot be rebuilt by its name.
    """
    gains = {float(f"{1 / scale_of(*pair):.12g}") for pair in attentions_of(model).values()} - {1.0}
    arguments = getattr(model, "_model_args", None) or {}
    if not _is_ours(model) or len(gains) > 1 or (not gains and _ARGUMENT not in arguments):
        return
    model._model_args = {**arguments, _ARGUMENT: gains.pop() if gains else PUBLISHED}  # type: ignore[assignment]


def _is_ours(model: nn.Module) -> bool:
    name = (getattr(model, "pretrained_cfg", None) or {}).get("architecture", "")
    return timm.is_model(name) and timm.model_entrypoint(name).__module__.startswith("sase_attn.")
