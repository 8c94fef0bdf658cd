"""Private functions of torch that tell where kernels may not be used; if torch lacks one, no kernel is used."""

import warnings
from functools import cache
from operator import attrgetter

import torch

NAMES = (
    "_C._are_functorch_transforms_active",
    "_C._functorch.is_legacy_batchedtensor",
    "_C._len_torch_dispatch_stack",
    "autograd.forward_ad._current_level",
)


@cache
def are_missing() -> bool:
    """Whether this version of torch lacks one of the functions. If so, it warns once per process."""
    missing = [name for name in NAMES if not _has(name)]
    if missing:
        warnings.warn(
            f"torch {torch.__version__} has no {', '.join(f'torch.{name}' for name in missing)}, without which kernels "
            "cannot tell where they may be used: attention is computed by its definition, which is slower",
            stacklevel=2,
        )
    return bool(missing)


# Getters for the module torch. They are implemented in C, because every eager call of a block uses them.
of_transforms = attrgetter(NAMES[0])
"""The function that tells whether a transform of `torch.func` is active."""
of_batches = attrgetter(NAMES[1])
"""The function that tells whether a tensor is a batch of gradients, as `is_grads_batched` makes it."""
of_modes = attrgetter(NAMES[2])
"""The function that returns the number of active dispatch modes, such as one that counts operations."""
of_forward_mode = attrgetter(NAMES[3])
"""The level of forward-mode differentiation, at least 0 while it is active."""


def _has(name: str) -> bool:
    try:
        attrgetter(name)(torch)
    except AttributeError:
        return False
    return True
