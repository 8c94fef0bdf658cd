"""The private functions of torch that tell where kernels may not be used; without one of them none is used."""

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
    """Whether this torch lacks one of them. Warns where it does, once a process."""
    missing = [name for name in NAMES if not _has(name)]
    if missing:
        warnings.warn(
            f"torch {torch.__version__} has no {', '.join(f'torch.{name}' for name in missing)}, without which kernels "
            "cannot tell where they may be used: attention is computed by its definition, which is slower",
            stacklevel=2,
        )
    return bool(missing)


# From the module torch; getters in C, because they are asked at every eager call of a block.
of_transforms = attrgetter(NAMES[0])
"""Tells whether a transform of `torch.func` is under way."""
of_batches = attrgetter(NAMES[1])
"""Tells whether a tensor is what `is_grads_batched` gives."""
of_modes = attrgetter(NAMES[2])
"""Tells how many dispatch modes are, such as one that counts operations."""
of_forward_mode = attrgetter(NAMES[3])
"""The level of forward-mode derivatives, 0 or more where they are under way."""


def _has(name: str) -> bool:
    try:
        attrgetter(name)(torch)
    except AttributeError:
        return False
    return True
