"""What `torch.compile` is held to: one graph for all sizes."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from inputs import draw
from torch import Tensor
from torch._dynamo.utils import counters


@contextmanager
def one_graph() -> Iterator[None]:
    """Fail unless torch compiles once in here; a second compilation is an error where it starts."""
    torch._dynamo.reset()
    counters.clear()
    with torch._dynamo.config.patch(recompile_limit=1, fail_on_recompile_limit_hit=True):
        yield
    assert counters["stats"]["unique_graphs"] == 1
    assert not counters["graph_break"]
    torch._dynamo.reset()


def maps(*shapes: tuple[int, int, int, int], dims: tuple[int, ...] = (0, 2, 3)) -> list[Tensor]:
    """In float64, of a batch size, height and width (`dims`) that torch may not take as constants: it would raise."""
    inputs = [draw(*shape, dtype=torch.float64) for shape in shapes]
    for x in inputs:
        for dim in dims:
            torch._dynamo.mark_dynamic(x, dim)
    return inputs
