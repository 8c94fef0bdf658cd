"""`build_placed`: build a module on a device and in a dtype, whether or not its class has such arguments."""

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
    """`make(*args, **options)`, with `device` and `dtype` where its signature names them; else the result is moved.

    A signature with `**kwargs` does not count as naming them, because the function that they are passed on to may not
    accept them.

    Raises:
        TypeError: `make` is no class or function that returns a module, or does not accept the options.
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
    """Names of the keyword arguments in a signature; none if `make` has no signature."""
    try:
        parameters = inspect.signature(make).parameters.values()
    except ValueError:
        return set()
    return {parameter.name for parameter in parameters if parameter.kind in _NAMED}
