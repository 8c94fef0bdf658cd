"""The classes of modules that the package defines."""

import importlib
import inspect
import pkgutil
from functools import cache

from torch import nn

import sase_attn


@cache
def module_classes() -> tuple[type[nn.Module], ...]:
    found: dict[type[nn.Module], None] = {}
    for info in pkgutil.walk_packages(sase_attn.__path__, "sase_attn."):
        if info.name.startswith("sase_attn.kernels.triton") or info.name.endswith("__main__"):
            continue  # kernels have no modules, and Triton is not installed everywhere
        for value in vars(importlib.import_module(info.name)).values():
            if inspect.isclass(value) and issubclass(value, nn.Module) and value.__module__ == info.name:
                found[value] = None
    return tuple(found)
