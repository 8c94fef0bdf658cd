"""The networks of a comparison, as fields of a recipe by label: one host, plain and with each attention."""

from collections.abc import Mapping, Sequence
from typing import Any

PLAIN = "plain"


def attended(
    base: str,
    attentions: Sequence[str],
    *,
    after: str | Sequence[str],
    base_args: Mapping[str, Any] | None = None,
    attn_args: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, dict[str, Any]]:
    """Fields of the plain network, and of it with each attention behind the same layers.

    Args:
        base: a model of timm's registry, without attention.
        attentions: names of attentions or genotypes; they are the labels.
        after: pattern(s) of the layers that an attention follows, see `sase_attn.attach`.
        base_args: arguments of the base.
        attn_args: further arguments of an attention, by its name.

    Raises:
        ValueError: an attention is named twice, or arguments are for one that is not compared.
    """
    if len(set(attentions)) < len(attentions):
        raise ValueError(f"attentions: wanted each once, got {', '.join(attentions)}")
    if strange := [name for name in attn_args or {} if name not in attentions]:
        raise ValueError(f"attn_args: wanted names of {', '.join(attentions)}, got {', '.join(strange)}")
    patterns = [after] if isinstance(after, str) else list(after)
    networks = {PLAIN: {"model": base, "model_kwargs": dict(base_args or {})}}
    for name in attentions:
        arguments: dict[str, Any] = {"base": base, "after": patterns, "attn": name}
        if given := (attn_args or {}).get(name):
            arguments["attn_args"] = dict(given)
        networks[name] = {"model": "attached", "model_kwargs": {**(base_args or {}), **arguments}}
    return networks
