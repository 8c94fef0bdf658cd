"""`restored`: change tensors for a while, and have their bits back."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


@contextmanager
def restored(tensors: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """Within the context tensors may be written to; after it, also after an error, they hold what they held before.

    The context gives copies of them, in their order. What is restored is copied back, not computed back: adding and
    subtracting a step would leave rounding errors in almost every weight.
    """
    changed = list(tensors)
    before = [tensor.detach().clone() for tensor in changed]
    try:
        yield before
    finally:
        if changed:
            with torch.no_grad():
                torch._foreach_copy_(changed, before)
