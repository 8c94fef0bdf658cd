"""`take_gains`: set the starting gains that weights were trained with on a network."""

from collections.abc import Collection

import timm
from torch import nn

from sase_attn.attentions.starting_gain import PUBLISHED, can_scale
from sase_attn.insert.attached import Attached
from sase_attn.insert.gain import scale_of
from sase_attn.weights.genotypes import SCALE, attentions_of, fields_of, fixed_factor, parsed

_ARGUMENT = "gain"


def asked_gain(model: nn.Module) -> str | float | None:
    """The argument `gain` that a network of timm's registry was made with, if any."""
    return (getattr(model, "_model_args", None) or {}).get(_ARGUMENT)


def take_unasked_gains(record: str | None, model: nn.Module, *, source: str) -> None:
    """Set the recorded gains of weights on a network, if it was made without the argument `gain`.

    Attention that already has a gain keeps it, such as that of a base with a tag.

    Raises:
        ValueError: the record is damaged.
    """
    if record is not None and hasattr(model, "_model_args") and asked_gain(model) is None:
        attentions = attentions_of(model)
        take_gains(record, model, source=source, names=[n for n, pair in attentions.items() if scale_of(*pair) == 1])


def take_gains(record: str | None, model: nn.Module, *, source: str, names: Collection[str] | None = None) -> None:
    """Set the recorded gains of weights on a network; without a record, those of the papers.

    Args:
        record: the record of the weights.
        model: the network.
        source: the name of the weights' source, for error messages.
        names: the names of the attentions to change; by default all.

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
    """Add the gain that was divided out of a model of this package to the arguments that rebuild it.

    If attentions have different gains, no argument can express them, and the model cannot be rebuilt by its name.

    Args:
        model: the model.
        names: the names of the attentions whose gain was just set. Others, such as those of a base, may
            have another one.
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
