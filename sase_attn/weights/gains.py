"""The gains that weights were trained with, given to a network that was made without asking for one."""

from collections.abc import Collection

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
    """Give a network the gains of weights, by their record, if its maker asked for none.

    Attention that has a gain already keeps it, as that of a base with a tag.

    Raises:
        ValueError: the record is damaged.
    """
    if record is not None and hasattr(model, "_model_args") and asked_gain(model) is None:
        attentions = attentions_of(model)
        take_gains(record, model, source=source, names=[n for n, pair in attentions.items() if scale_of(*pair) == 1])


def take_gains(record: str | None, model: nn.Module, *, source: str, names: Collection[str] | None = None) -> None:
    """Give a network the gains of weights, by their record; those of the papers if they have none.

    Args:
        record: of the weights.
        model: gets the gains.
        source: where the weights are from, for the message.
        names: of the attentions that get them; all by default.

    Raises:
        ValueError: the record is damaged.
    """
    attentions, changed = attentions_of(model), []
    saved = "" if record is None else parsed(record, source, attentions)
    for name, (holder, attn) in attentions.items():
        if names is not None and name not in names:
            continue
        before, fields = scale_of(holder, attn), fields_of(saved if isinstance(saved, str) else saved.get(name, ""))
        scale = float(fields.get(SCALE, "1")) / (fixed_factor(attn) if SCALE in fields else 1)
        if can_scale(attn):
            attn.scale = scale  # type: ignore[assignment]
        elif isinstance(holder, Attached):
            holder.scale = scale
        if scale_of(holder, attn) != before:
            changed.append(name)
    remember_gain(model, changed)


def remember_gain(model: nn.Module, names: Collection[str]) -> None:
    """Note the gain that was divided out of a model of this package among the arguments that rebuild it.

    Where attentions have different ones no argument says them, and the model cannot be rebuilt by its name.

    Args:
        model: that has it.
        names: of the attentions that have just got it. Others may have one of their own, as those of a base.
    """
    gains = {float(f"{1 / scale_of(*pair):.12g}") for name, pair in attentions_of(model).items() if name in names}
    arguments = getattr(model, "_model_args", None) or {}
    others = gains - {1.0}
    if not gains or not _is_ours(model) or len(others) > 1 or (not others and _ARGUMENT not in arguments):
        return
    model._model_args = {**arguments, _ARGUMENT: others.pop() if others else PUBLISHED}  # type: ignore[assignment]


def _is_ours(model: nn.Module) -> bool:
    name = (getattr(model, "pretrained_cfg", None) or {}).get("architecture", "")
    return timm.is_model(name) and timm.model_entrypoint(name).__module__.startswith("sase_attn.")
