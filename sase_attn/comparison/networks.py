"""`attended`: the networks of a comparison as recipe fields by label: one base network, plain and with attentions."""

from collections.abc import Mapping, Sequence
from typing import Any

import timm

from sase_attn.attentions import create_attention, starting_gain
from sase_attn.attentions.starting_gain import PUBLISHED, UNIT
from sase_attn.insert.kinds import attention_inventory

PLAIN = "plain"
OWN_GAIN = " (its own gain)"
CHANNELS = 64  # of the attention whose starting gain is measured


def attended(
    base: str,
    attentions: Sequence[str] | Mapping[str, str],
    *,
    after: str | Sequence[str],
    base_args: Mapping[str, Any] | None = None,
    attn_args: Mapping[str, Mapping[str, Any]] | None = None,
    gain: str = UNIT,
    constants: bool | Sequence[str] = True,
    from_weights: bool = False,
) -> dict[str, dict[str, Any]]:
    """Recipe fields of networks to compare: plain, with each attention after the same layers, and with constants.

    An attention multiplies its map by some factor before it has learned anything, its starting gain. At gain "unit"
    this is divided out. An attention without such a gain starts as published, and its label says so. Constants of the
    published gains show what the factor alone does.

    Args:
        base: a model of timm's registry, without attention.
        attentions: names of attentions or genotypes, which are then the labels; or a mapping from labels to these.
        after: pattern(s) of the layers that an attention follows, see `sase_attn.attach`.
        base_args: arguments of the base.
        attn_args: further arguments of an attention, by its label.
        gain: what attentions start with, "unit" or "published"; see `sase_attn.attentions.set_gain`.
        constants: whether there are networks with constants, or the labels of the attentions whose gains they have.
        from_weights: the networks start from weights. Attention then preserves their output, whatever its gain; there
            are no constants, as they would be the plain network.

    Raises:
        ValueError: an attention is named twice, arguments are for one that is not compared, there is no such gain, or
            one is published in networks that start from weights.
        UnknownNameError: no such attention.
    """
    if gain not in (UNIT, PUBLISHED):
        raise ValueError(f"gain: wanted {UNIT!r} or {PUBLISHED!r}, got {gain!r}")
    if from_weights and gain == PUBLISHED:
        raise ValueError(f"gain: attention preserves the output of a network that starts from weights, got {gain!r}")
    if not isinstance(attentions, Mapping):
        if len(set(attentions)) < len(attentions):
            raise ValueError(f"attentions: wanted each once, got {', '.join(attentions)}")
        attentions = dict(zip(attentions, attentions, strict=True))
    if strange := [name for name in attn_args or {} if name not in attentions]:
        raise ValueError(f"attn_args: wanted names of {', '.join(attentions)}, got {', '.join(strange)}")
    patterns = [after] if isinstance(after, str) else list(after)

    def network(attention: str, options: Mapping[str, Any], **more: Any) -> dict[str, Any]:
        arguments = {"base": base, "after": patterns, "attn": attention, **more}
        if options:
            arguments["attn_args"] = dict(options)
        return {"model": "attached", "model_kwargs": {**(base_args or {}), **arguments}}

    networks: dict[str, dict[str, Any]] = {PLAIN: {"model": base, "model_kwargs": dict(base_args or {})}}
    published = {label: _published_gain(name, (attn_args or {}).get(label, {})) for label, name in attentions.items()}
    if constants and not from_weights:
        gains = [published[label] for label in (attentions if constants is True else constants)]
        for value in sorted({round(g, 3) for g in gains if g is not None and round(g, 3) != 1}):
            networks[f"constant {value:g}"] = network("constant", {"value": value})
    for label, name in attentions.items():
        options = (attn_args or {}).get(label, {})
        if from_weights or gain == PUBLISHED:
            networks[label] = network(name, options)
        elif published[label] is None:
            networks[f"{label}{OWN_GAIN}"] = network(name, options)
        else:
            networks[label] = network(name, options, gain=UNIT)
    return networks


def own_attention(base: str, base_args: Mapping[str, Any] | None = None) -> str | None:
    """A line on the attention that the plain network already has; None if it has none, or cannot be made."""
    try:
        found = attention_inventory(timm.create_model(base, **(base_args or {})))
    except Exception:  # any error of timm or of a model: the comparison raises it again
        return None
    if found == "none":
        return None
    return f"{base} has attention of its own, {found}: so have the plain network and all others"


def _published_gain(name: str, options: Mapping[str, Any]) -> float | None:
    """The gain that an attention starts with; None if it is not known."""
    attention = create_attention(name, CHANNELS, **options)
    try:
        return starting_gain(attention)
    except ValueError:
        return None
