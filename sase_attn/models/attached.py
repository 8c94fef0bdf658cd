"""`attached`: any timm network with attention after layers named by a pattern, reproducible by its arguments alone."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import timm
from timm.models import build_model_with_cfg, get_pretrained_cfg, register_model
from torch import nn

from sase_attn.insert.attach import attach
from sase_attn.suggest import unknown_name
from sase_attn.weights import warm_start

__all__: list[str] = []  # filled by register_model


@register_model
def attached(
    pretrained: bool = False,
    *,
    base: str = "resnet50",
    after: str | Sequence[str] = "layer*.*.bn3",
    attn: str = "sase",
    attn_args: Mapping[str, Any] | None = None,
    pretrained_cfg: Any = None,
    **kwargs: Any,
) -> nn.Module:
    """A timm network with attention inserted (see `sase_attn.attach`).

    With `pretrained=True` it starts from the base's weights with its outputs preserved. Arguments are JSON-able, so
    that `save_for_hf`, `local-dir:` and `hf-hub:` reproduce the network.

    Args:
        base: a model of timm's registry, with or without a pretrained tag.
        after: pattern(s) of module names in it.
        attn: a genotype's name or inline string.
        attn_args: further arguments of the attention.

    Raises:
        UnknownNameError: no such base, genotype, or no module of that name.
        ValueError: see `attach`.
    """
    if not isinstance(attn, str):
        raise TypeError(f"models take a genotype as a string, to be reproducible; pass str(genotype), not {attn!r}")
    architecture = base.partition(".")[0]
    if not timm.is_model(architecture) or architecture == "attached":
        raise unknown_name("base model", base, [name for name in timm.list_models() if name != "attached"])
    if pretrained_cfg is None or isinstance(pretrained_cfg, str):
        base_cfg = get_pretrained_cfg(base)
        pretrained_cfg = None if base_cfg is None else replace(base_cfg, architecture="attached", tag=None).to_dict()

    def build(**model_args: Any) -> nn.Module:
        model = timm.create_model(architecture, pretrained=False, **model_args)
        attach(model, after=after, attn=attn, attn_args=attn_args)
        return model

    return build_model_with_cfg(
        build, "attached", pretrained, pretrained_cfg=pretrained_cfg, pretrained_filter_fn=warm_start, **kwargs
    )
