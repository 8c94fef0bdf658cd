"""`restored`: change tensors within a context, and restore them exactly."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


@contextmanager
def restored(tensors: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """A context in which tensors may be written to; after it, also after an error, they hold their former values.

    It yields copies of the tensors, in their order. The copies are written back at the end: adding and subtracting a
    step instead would leave rounding errors in almost every weight.
    """
    changed = list(tensors)
    before = [tensor.detach().clone() for tensor in changed]
    try:
        yield before
    finally:
        if changed:
            with torch.no_grad():
                torch._foreach_copy_(changed, before)
