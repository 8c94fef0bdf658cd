"""Modules and parameters of a network: choose them by patterns of names, freeze them, count them."""

import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from sase_attn.errors import unknown_name


def matches(name: str, pattern: str) -> bool:
    """Whether a module's name matches a pattern, dot by dot: "layer*.*.bn3" is every `bn3` two levels below a layer."""
    parts, wanted = name.split("."), pattern.split(".")
    return len(parts) == len(wanted) and all(map(fnmatchcase, parts, wanted))


def matching(names: Collection[str], patterns: str | Iterable[str], *, kind: str = "module pattern") -> list[str]:
    """The names that match at least one pattern, in their order.

    Raises:
        UnknownNameError: a pattern matches no name; the nearest names are given.
    """
    patterns = [patterns] if isinstance(patterns, str) else list(patterns)
    for pattern in patterns:
        if not any(matches(name, pattern) for name in names):
            raise unknown_name(kind, pattern, [name for name in names if name])
    return [name for name in names if any(matches(name, pattern) for pattern in patterns)]


def freeze(model: nn.Module, patterns: Sequence[str]) -> list[nn.Module]:
    """Stop training the parameters whose names match, and return the norms that have no trainable parameter left.

    Keep those norms in eval mode, so that their running statistics do not change either. In these patterns, "*" matches
    dots too: "layer1.*" is everything below `layer1`.

    Raises:
        UnknownNameError: a pattern matches no parameter. ValueError: nothing is left to train.
    """
    parameters = dict(model.named_parameters())
    for pattern in patterns:
        matched = [name for name in parameters if fnmatchcase(name, pattern)]
        if not matched:
            raise unknown_name("parameter pattern", pattern, parameters)
        for name in matched:
            parameters[name].requires_grad_(False)
    if not any(parameter.requires_grad for parameter in parameters.values()):
        raise ValueError(f"freeze: {' '.join(patterns)} leaves no parameter to train")
    norms = []
    for module in model.modules():
        own = list(module.parameters(recurse=False))
        if own and hasattr(module, "running_mean") and not any(parameter.requires_grad for parameter in own):
            norms.append(module)
    return norms


def count_parameters(module: nn.Module) -> int:
    """The number of learnable values."""
    return sum(parameter.numel() for parameter in module.parameters())


def is_finite(module: nn.Module) -> bool:
    """Whether every learnable value is finite."""
    return all(math.isfinite(float(p.detach().abs().max())) for p in module.parameters() if p.numel())


def derived_classes(cls: type[Any]) -> Iterator[type[nn.Module]]:
    """All classes that derive from a class, a user's included; one that derives along two paths is returned twice."""
    for derived in cls.__subclasses__():
        yield derived
        yield from derived_classes(derived)
