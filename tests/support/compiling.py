"""Checks that `torch.compile` makes a single graph for all sizes."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from inputs import draw
from torch import Tensor
from torch._dynamo.utils import counters


@contextmanager
def one_graph() -> Iterator[None]:
    """Fail unless torch compiles exactly once within the context; a second compilation raises when it starts."""
    torch._dynamo.reset()
    counters.clear()
    with torch._dynamo.config.patch(recompile_limit=1, fail_on_recompile_limit_hit=True):
        yield
    assert counters["stats"]["unique_graphs"] == 1
    assert not counters["graph_break"]
    torch._dynamo.reset()


def maps(*shapes: tuple[int, int, int, int], dims: tuple[int, ...] = (0, 2, 3)) -> list[Tensor]:
    """Maps in float64 whose axes `dims` are marked as dynamic: torch raises if it specialises on their sizes."""
    inputs = [draw(*shape, dtype=torch.float64) for shape in shapes]
    for x in inputs:
        for dim in dims:
            torch._dynamo.mark_dynamic(x, dim)
    return inputs
