"""Modules that others define, made on a device and in a type whether or not they know of either: `build_placed`."""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def build_placed(
    make: Callable[..., nn.Module],
    *args: Any,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    **options: Any,
) -> nn.Module:
    """`make(*args, **options)`, with `device` and `dtype` where its signature names them; else it is moved afterwards.

    Keywords that a signature takes without a name (`**kwargs`) are not counted on: whoever passes them on may not take
    these.

    Raises:
        TypeError: `make` is no class or function that gives a module, or does not take the options.
    """
    if isinstance(make, nn.Module) or not callable(make):
        what = f"the module {type(make).__name__}(…) itself" if isinstance(make, nn.Module) else repr(make)
        raise TypeError(f"wanted a class or a function that makes a module from the channels, got {what}")
    place: dict[str, Any] = {"device": device, "dtype": dtype}
    place = {name: value for name, value in place.items() if value is not None}
    passed = {name: place[name] for name in place.keys() & _named(make)}
    module: object = make(*args, **passed, **options)
    if not isinstance(module, nn.Module):
        label = getattr(make, "__name__", repr(make))
        raise TypeError(f"wanted a module from {label}, got {type(module).__name__}")
    rest = {name: value for name, value in place.items() if name not in passed}
    return module.to(**rest) if rest else module


def _named(make: Callable[..., Any]) -> set[str]:
    """Names of the keywords in its signature; none of what has no signature."""
    try:
        parameters = inspect.signature(make).parameters.values()
    except ValueError:
        return set()
    return {parameter.name for parameter in parameters if parameter.kind in _NAMED}
