"""Sets of statistics as bits, the rows of a reduction's results, and the type in which it accumulates."""

from functools import cache

import torch

from sase_attn.statistics import STATISTICS

COMPUTED = tuple(name for name, statistic in STATISTICS.items() if statistic.finish is None)
"""The statistics that kernels compute, in the order of the rows of their results; bit i of a set is the i-th."""


@cache
def bits(names: tuple[str, ...]) -> int:
    """The set of those that kernels must compute for statistics of these names."""
    return sum(1 << i for i, name in enumerate(COMPUTED) if any(name in STATISTICS[asked].needs for asked in names))


@cache
def names_of(which: int) -> tuple[str, ...]:
    """The statistics of a set, in the order of the rows of a reduction's values."""
    return tuple(name for i, name in enumerate(COMPUTED) if which >> i & 1)


@cache
def saved_rows(which: int) -> int:
    """The number of rows saved for the backward pass: the ties of a maximum; mean and variance for central moments."""
    names = names_of(which)
    return ("maximum" in names) + 2 * ("biased_std" in names or "third_moment" in names)


@cache
def accumulator(dtype: torch.dtype) -> torch.dtype:
    """The type in which maps of a type are reduced and gated."""
    return torch.float64 if dtype == torch.float64 else torch.float32
