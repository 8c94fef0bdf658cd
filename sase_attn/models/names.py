"""Names of timm's registry that a person gave: an architecture, with or without the tag of its weights."""

from collections.abc import Iterable

import timm
from timm.models import get_arch_pretrained_cfgs

from sase_attn.errors import UnknownNameError, unknown_name


def check_name(name: str, known: Iterable[str] | None = None, kind: str = "model") -> None:
    """Raise UnknownNameError, with the nearest known names, if timm has no such architecture or no such tag of it.

    Args:
        name: as `timm.create_model` takes it, without a scheme such as `hf-hub:`.
        known: names to propose; all of the registry by default.
        kind: what the message calls the name.
    """
    architecture, dot, tag = name.partition(".")
    if not timm.is_model(architecture):
        raise unknown_name(kind, name, timm.list_models() if known is None else known)
    names = get_arch_pretrained_cfgs(architecture)
    if not dot or name in names:
        return
    tags = [one.partition(".")[2] for one in names if "." in one]
    if not tags:
        raise UnknownNameError(f"unknown {kind} {name!r}; {architecture} has no tags: leave that out")
    raise unknown_name(f"tag of {architecture}", tag, tags)
