"""The private functions of torch that tell where kernels may not be used; without one of them none is used."""

import warnings
from collections.abc import Callable
from functools import cache
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor

NAMES = (
    "_C._are_functorch_transforms_active",
    "_C._functorch.is_legacy_batchedtensor",
    "_C._len_torch_dispatch_stack",
    "autograd.forward_ad._current_level",
)


@cache
def are_missing() -> bool:
    """Whether this torch lacks one of them. Warns where it does, once a process."""
    missing = [name for name in NAMES if not _has(name)]
    if missing:
        warnings.warn(
            f"torch {torch.__version__} has no {', '.join(f'torch.{name}' for name in missing)}, without which kernels "
            "cannot tell where they may be used: attention is computed by its definition, which is slower",
            stacklevel=2,
        )
    return bool(missing)


def transforms_are_active() -> bool:
    """Whether a transform of `torch.func`, or forward-mode derivatives, are under way."""
    return bool(_get(NAMES[0])()) or _get(NAMES[3]) >= 0


def is_batch_of_gradients(x: Tensor) -> bool:
    """Whether `x` is what `is_grads_batched` gives."""
    return bool(_get(NAMES[1])(x))


def modes_are_active() -> bool:
    """Whether a dispatch mode is, such as one that counts operations."""
    return bool(_get(NAMES[2])())


_GETTERS: dict[str, Callable[[Any], Any]] = {name: attrgetter(name) for name in NAMES}


def _get(name: str) -> Any:
    return _GETTERS[name](torch)


def _has(name: str) -> bool:
    try:
        _get(name)
    except AttributeError:
        return False
    return True
