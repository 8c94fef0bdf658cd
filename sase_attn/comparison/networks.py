"""The networks of a comparison, as fields of a recipe by label: one host, plain and with each attention."""

from collections.abc import Mapping, Sequence
from typing import Any

from sase_attn.attentions import create_attention, starting_gain
from sase_attn.attentions.starting_gain import PUBLISHED, UNIT

PLAIN = "plain"
OWN_GAIN = " (its own gain)"
CHANNELS = 64  # of the attention whose starting gain is looked up


def attended(
    base: str,
    attentions: Sequence[str],
    *,
    after: str | Sequence[str],
    base_args: Mapping[str, Any] | None = None,
    attn_args: Mapping[str, Mapping[str, Any]] | None = None,
    gain: str = UNIT,
    constants: bool = True,
) -> dict[str, dict[str, Any]]:
    """Fields of the plain network, of it with each attention behind the same layers, and of it with constants there.

    An attention that starts at a half trains like a network with smaller steps. At gain "unit" its starting gain is
    divided out. One that has no such gain starts as published, and its label says so. A constant factor of each
    published gain shows what that alone does.

    Args:
        base: a model of timm's registry, without attention.
        attentions: names of attentions or genotypes; they are the labels.
        after: pattern(s) of the layers that an attention follows, see `sase_attn.attach`.
        base_args: arguments of the base.
        attn_args: further arguments of an attention, by its name.
        gain: what attentions start with, "unit" or "published"; see `sase_attn.attentions.set_gain`.
        constants: whether constants are entered.

    Raises:
        ValueError: an attention is named twice, arguments are for one that is not compared, or there is no such gain.
        UnknownNameError: no such attention.
    """
    if gain not in (UNIT, PUBLISHED):
        raise ValueError(f"gain: wanted {UNIT!r} or {PUBLISHED!r}, got {gain!r}")
    if len(set(attentions)) < len(attentions):
        raise ValueError(f"attentions: wanted each once, got {', '.join(attentions)}")
    if strange := [name for name in attn_args or {} if name not in attentions]:
        raise ValueError(f"attn_args: wanted names of {', '.join(attentions)}, got {', '.join(strange)}")
    patterns = [after] if isinstance(after, str) else list(after)

    def network(attention: str, options: Mapping[str, Any], **more: Any) -> dict[str, Any]:
        arguments = {"base": base, "after": patterns, "attn": attention, **more}
        if options:
            arguments["attn_args"] = dict(options)
        return {"model": "attached", "model_kwargs": {**(base_args or {}), **arguments}}

    networks: dict[str, dict[str, Any]] = {PLAIN: {"model": base, "model_kwargs": dict(base_args or {})}}
    published = {name: _published_gain(name, (attn_args or {}).get(name, {})) for name in attentions}
    if constants:
        for value in sorted({round(g, 3) for g in published.values() if g is not None and round(g, 3) != 1}):
            networks[f"constant {value:g}"] = network("constant", {"value": value})
    for name in attentions:
        options = (attn_args or {}).get(name, {})
        if gain == UNIT and published[name] is not None:
            networks[name] = network(name, options, gain=UNIT)
        else:
            networks[f"{name}{OWN_GAIN}" if gain == UNIT else name] = network(name, options)
    return networks


def _published_gain(name: str, options: Mapping[str, Any]) -> float | None:
    """What an attention starts with; None where no number says it."""
    attention = create_attention(name, CHANNELS, **options)
    try:
        return starting_gain(attention)
    except ValueError:
        return None
