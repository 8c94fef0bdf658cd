"""The kernels in Triton, interpreted on the CPU: what they load and store, and how they are registered."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from inputs import draw
from kernel_cases import (
    ALL,
    AXES,
    DOUBLE,
    LAYOUTS,
    ONE_LAYOUT,
    STRICT,
    assert_agree,
    channels_last,
    contiguous,
    define,
    read,
    slow,
)
from normalised_tail import maps, unit
from tolerances import TOLERANCES, assert_close
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sase_attn import kernels
from sase_attn.kernels import layout as tiles
from sase_attn.kernels import reader, spec

pytestmark = STRICT


@pytest.mark.parametrize(
    "dtype, programs",
    [(DOUBLE, 512), *(pytest.param(t, 1, marks=slow) for t in TOLERANCES)],
    ids=str,
)
@LAYOUTS
def test_in_many_tiles_and_pieces(operators, dtype, programs, layout, monkeypatch):
    monkeypatch.setattr(tiles, "TILE", 16)
    monkeypatch.setattr(tiles, "PROGRAMS", programs)
    assert_agree(operators, layout(draw(1, 5, 5, 4, dtype=dtype)))


@pytest.mark.parametrize("offset", [-1e3, pytest.param(1e2, marks=slow)])
def test_mean_far_above_the_deviation(operators, offset, walk):
    """In float32, where raw moments would lose the third and most of the second."""
    x = (draw(1, 20, 3, 6, dtype=DOUBLE) + offset).float()
    for dims in AXES:
        found = read(operators, x, dims, ("biased_std", "third_moment"))
        assert_close(found["biased_std"], define(x.double(), dims, "biased_std"), tolerance=1e-6)
        assert_close(found["third_moment"], define(x.double(), dims, "third_moment"), tolerance=1e-5)


EVERY = spec.bits(ALL)


class Moved:
    """Addresses that kernels loaded and stored in the last call."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from triton.runtime.interpreter import InterpreterBuilder

        self._addresses: dict[str, list[np.ndarray]] = {}
        for kind, mask in (("load", 0), ("store", 1)):
            original = getattr(InterpreterBuilder, f"create_masked_{kind}")

            def recorded(builder, pointers, *rest, original=original, kind=kind, mask=mask):  # type: ignore[no-untyped-def]
                self._addresses[kind].append(pointers.data[rest[mask].data])
                return original(builder, pointers, *rest)

            monkeypatch.setattr(InterpreterBuilder, f"create_masked_{kind}", recorded)
        # What kernels write stays allocated, so that no address is counted for two tensors.
        self._kept: list[Tensor] = []
        for owner, name in ((Tensor, "new_empty"), (torch, "empty_like")):
            make = getattr(owner, name)

            def kept(*args, make=make, **kwargs):  # type: ignore[no-untyped-def]
                self._kept.append(make(*args, **kwargs))
                return self._kept[-1]

            monkeypatch.setattr(owner, name, kept)

    def by(self, call: Callable[..., Any], *args: object) -> Any:
        self._addresses = {"load": [], "store": []}
        self._kept.clear()
        return call(*args)

    def loads(self, x: Tensor) -> float:
        """Elements of a dense tensor that were loaded, over its size."""
        return self._times("load", x)

    def stores(self, x: Tensor) -> float:
        return self._times("store", x)

    def _times(self, kind: str, x: Tensor) -> float:
        found = np.concatenate(self._addresses[kind])
        return ((found >= x.data_ptr()) & (found < x.data_ptr() + x.nbytes)).sum() / x.numel()


@pytest.mark.parametrize("layout", [channels_last, pytest.param(contiguous, marks=slow)])
def test_passes_over_the_maps(operators, layout, walk, monkeypatch):
    """Each operator loads every map that it needs once, and stores once what it gives."""
    x, g, other = (layout(draw(1, 5, 3, 4, seed=seed)) for seed in range(3))
    channel, position = draw(1, 5), draw(1, 12)
    moved = Moved(monkeypatch)
    space = moved.by(operators.reduce, x, None, 2, EVERY, 0)
    assert moved.loads(x) == 1
    values, saved = moved.by(operators.reduce, x, channel, 1, EVERY, EVERY)
    assert moved.loads(x) == 1
    y = moved.by(operators.gate, x, channel, position, other, True)
    assert (moved.loads(x), moved.loads(other), moved.stores(y)) == (1, 1, 1)
    _, _, masked = moved.by(operators.sums, x, y, g)
    assert (moved.loads(x), moved.loads(y), moved.loads(g), moved.stores(masked)) == (1, 1, 1, 1)
    moved.by(operators.weight_backward, x, channel, values[5:], values[5:], saved[3:], EVERY)
    assert moved.loads(x) == 1
    gate, over = (channel, position), (channel, values, values, saved, EVERY, EVERY, EVERY)
    dx = moved.by(operators.map_backward, x, g, *gate, space[0], *space, *over)
    assert (moved.loads(x), moved.loads(g), moved.stores(dx)) == (1, 1, 1)
    over = (channel, values[:2], values[:2], saved, 1, 1, 1)
    dx = moved.by(operators.map_backward, x, g, *gate, *[space[0][:1]] * 3, *over)
    assert (moved.loads(x), moved.loads(g), moved.stores(dx)) == (0, 1, 1)  # gradients of means need no map


class Large(TorchDispatchMode):
    """Operations of torch that read or write as many elements as a map has, beside those that make new memory."""

    def __init__(self, elements: int) -> None:
        super().__init__()
        self.names: set[str] = set()
        self._elements = elements

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        found = function(*args, **(kwargs or {}))
        tensors = [value for value in tree_leaves((args, kwargs, found)) if isinstance(value, Tensor)]
        free = function.namespace == "sase_attn" or function.is_view or "empty" in function._opname
        if not free and any(value.numel() == self._elements for value in tensors):
            self.names.add(function._opname)
        return found


@pytest.mark.parametrize("relu", [True, pytest.param(False, marks=slow)])
@pytest.mark.parametrize("layout", [channels_last, pytest.param(contiguous, marks=slow)])
def test_passes_of_the_normalised_tail(relu, layout, walk, monkeypatch):
    """Three reads of the map before the norm forward and three backward; others are of what the tail is given."""
    module = unit(5, dtype=torch.float32)
    x, shortcut, g = maps(1, 5, 3, 4, dtype=torch.float32, layout=layout)
    leaves = [x.requires_grad_(), shortcut.requires_grad_()]
    moved = Moved(monkeypatch)
    with kernels.backend("triton"), Large(x.numel()) as others:
        y = moved.by(module["block"].tail, *leaves, relu, module["norm"])
        assert (moved.loads(x), moved.loads(shortcut), moved.stores(y)) == (3, 1, 1)
        dx, masked = moved.by(torch.autograd.grad, y, leaves, g)
    assert (moved.loads(x), moved.loads(y), moved.loads(g), moved.stores(dx)) == (3, relu, 1 if relu else 2, 1)
    if relu:
        assert (moved.loads(masked), moved.stores(masked)) == (1, 1)
    assert not others.names


@pytest.mark.parametrize("shape", [(2, 5, 4, 3), *(pytest.param(s, marks=slow) for s in [(1, 1, 1, 1), (3, 4, 1, 1)])])
@ONE_LAYOUT
def test_operators_are_registered_as_torch_wants(operators, shape, layout):
    x, g, check = layout(draw(*shape)), draw(*shape, seed=1), torch.library.opcheck
    batch, channels, height, width = shape
    channel, position = draw(batch, channels), draw(batch, height * width)
    space = operators.reduce(x, None, 2, EVERY, 0)
    check(operators.reduce, (x, None, 2, EVERY, 0))
    check(operators.reduce, (x, channel, 1, EVERY, EVERY))
    values, saved = operators.reduce(x, channel, 1, EVERY, EVERY)
    over = (channel, values, values, saved, EVERY, EVERY, EVERY)
    check(operators.map_backward, (x, g, channel, position, space[0], *space, *over))
    check(operators.map_backward, (x, *[None] * 10, EVERY, EVERY, EVERY))
    check(operators.weight_backward, (x, channel, *(values[:5],) * 2, saved[:3], EVERY))
    for other in (None, g):
        check(operators.gate, (x, channel, position, other, other is not None))
        check(operators.sums, (x, other, g))


@pytest.mark.parametrize("shape", [(1, 5, 2, 3), *(pytest.param(s, marks=slow) for s in [(1, 1, 1, 1), (3, 4, 1, 1)])])
@pytest.mark.parametrize("signed", [True, pytest.param(False, marks=slow)])
@ONE_LAYOUT
def test_operators_of_a_normalised_map_are_registered_as_torch_wants(operators, shape, layout, signed):
    x, g, check = layout(draw(*shape)), draw(*shape, seed=1), torch.library.opcheck
    batch, channels, height, width = shape
    weight, position, affine = draw(batch, channels), draw(batch, height * width), draw(2, channels, seed=2)
    given = affine[0].sign() if signed else None, affine
    check(operators.reduce, (x, weight, 1, EVERY, EVERY, *given))
    values, saved = operators.reduce(x, weight, 1, EVERY, EVERY, *given)
    for factor, which in ((weight, EVERY), (None, 0)) if signed else ((weight, 0),):
        check(operators.channels_backward, (x, factor, values, values, saved, EVERY, which, *given))
    over = (*[None] * 3, weight, values, values, saved, EVERY, EVERY, EVERY)
    check(operators.map_backward, (x, g, weight, position, *over, *given))
    check(operators.gate, (x, weight, position, g, True, *given))
    check(operators.normalised_sums, (x, g if signed else None, g, weight, position, *given))


def test_what_kernels_refuse():
    with (
        kernels.backend("triton"),
        pytest.raises(RuntimeError, match="kernels take float16, bfloat16, float32 or float64, got torch.int64"),
    ):
        reader.statistics_of(torch.ones(1, 2, 3, 4, dtype=torch.int64), ["maximum"], [2, 3])
