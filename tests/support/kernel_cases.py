"""Shared by the tests of the kernels: maps, the results of kernels and of the definition, and their comparison."""

import os
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from equivalence import GENOTYPES
from inputs import draw, randomise
from tolerances import TOLERANCES, assert_close
from torch import Tensor, nn

from sase_attn import SASEBlock
from sase_attn.kernels import spec
from sase_attn.kernels.reader import MapReader
from sase_attn.statistics import STATISTICS

DOUBLE = torch.float64
ALL = spec.COMPUTED
AXES = ([2, 3], [1])
slow = pytest.mark.slow

INTERPRETED = "TRITON_INTERPRET" in os.environ
"""Whether this process tests the Triton kernels in the interpreter; then it collects no other tests."""
STRICT = [
    pytest.mark.usefixtures("one_thread", "poison", "definition"),
    pytest.mark.filterwarnings(
        "error",
        "ignore:All-NaN slice",  # from numpy, which Triton's interpreter uses
        "ignore:.*torch.jit",
        "ignore::torch.jit.TracerWarning",
    ),
]


def slow_if_interpreted(test: Callable[..., None]) -> Callable[..., None]:
    """Mark a test as slow under Triton's interpreter, where other tests check the same."""
    return slow(test) if INTERPRETED else test


def contiguous(x: Tensor) -> Tensor:
    return x.contiguous()


def channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def strided(x: Tensor) -> Tensor:
    """The map as every other column of a wider one."""
    return x.repeat_interleave(2, dim=3)[..., ::2]


ALL_LAYOUTS = pytest.mark.parametrize("layout", [contiguous, channels_last, strided])
LAYOUTS = pytest.mark.parametrize("layout", [contiguous, channels_last, pytest.param(strided, marks=slow)])
ONE_LAYOUT = pytest.mark.parametrize(
    "layout", [channels_last, *(pytest.param(f, marks=slow) for f in (contiguous, strided))]
)


def shared(operators: ModuleType, x: Tensor, **sets: Any) -> MapReader:
    """A `MapReader` that reads a map by kernels."""
    return MapReader(x, operators, **sets)


def read(operators: ModuleType, x: Tensor, dims: list[int], names: tuple[str, ...]) -> dict[str, Tensor]:
    """Statistics over the positions or the channels by kernels."""
    reader = shared(operators, x, **{"channels" if dims == [1] else "positions": names})
    return dict(zip(names, reader.statistics(names, dims), strict=True))


def define(x: Tensor, dims: list[int], name: str) -> Tensor:
    """One statistic by its definition."""
    return STATISTICS[name].definition(x, dims)


def by_kernels(operators: ModuleType, x: Tensor, weight: Tensor, names: tuple[str, ...]) -> list[Tensor]:
    """Statistics over positions, over channels and weighted, and the map gated by the weight and one of them."""
    reader = shared(operators, x, positions=names, channels=names, weighted=names)
    product = reader * weight
    unweighted, weighted = reader.statistics(names, [1]), product.statistics(names, [1])
    return [*reader.statistics(names, [2, 3]), *unweighted, *weighted, reader.gate(weight, unweighted[0])]


def by_definition(x: Tensor, weight: Tensor, names: tuple[str, ...]) -> list[Tensor]:
    values = [define(m, dims, name) for m, dims in [(x, [2, 3]), (x, [1]), (x * weight, [1])] for name in names]
    return [*values, (x * (weight + values[len(names)])).to(x.dtype)]


def results(function: Callable[..., list[Tensor]], x: Tensor, names: tuple[str, ...]) -> list[Tensor]:
    """The function's values, and the gradients of x and of the weight for random gradients of the values."""
    weight = draw(len(x), x.shape[1], 1, 1, seed=1, dtype=spec.accumulator(x.dtype))
    leaves = [x.detach().requires_grad_(), weight.requires_grad_()]
    values = function(*leaves, names)
    cotangents = [draw(*y.shape, seed=5 + i, dtype=y.dtype) for i, y in enumerate(values)]
    return [*values, *torch.autograd.grad(values, leaves, cotangents)]


def assert_agree(operators: ModuleType, x: Tensor, names: tuple[str, ...] = ALL) -> list[Tensor]:
    """Check that `by_kernels` agrees with `by_definition` in values and gradients, and return its results."""
    found = results(lambda *args: by_kernels(operators, *args), x, names)
    for y, expected in zip(found, results(by_definition, x, names), strict=True):
        assert y.dtype == expected.dtype
        # Gradients are summed, and so rounded, in another order.
        assert_close(y, expected, tolerance=3 * TOLERANCES[y.dtype])
    return found


def block(genotype: str, training: bool = True, dtype: torch.dtype = DOUBLE, channels: int = 6) -> nn.Module:
    return randomise(SASEBlock(channels, GENOTYPES.get(genotype, genotype), dtype=dtype)).train(training)


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in found.items():
        assert_close(value, expected[name])
