"""Checks of the arguments of operations and attentions; each error names the argument."""

import math
import operator
from collections.abc import Collection, Mapping
from numbers import Real
from typing import Any

from sase_attn.errors import unknown_name


def positive(name: str, value: int) -> int:
    """`value`, if it is a whole number of at least 1; otherwise ValueError."""
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None:
        raise ValueError(f"{name} must be a whole number, got {value!r}")
    if number < 1:
        raise ValueError(f"{name} must be at least 1, got {number}")
    return number


def odd(name: str, value: int) -> int:
    """`value`, if it is an odd number of at least 1; otherwise ValueError."""
    if positive(name, value) % 2 != 1:
        raise ValueError(f"{name} must be odd, got {value}")
    return value


def multiple(name: str, value: int, of: int) -> int:
    """`value`, if it is a positive multiple of `of`; otherwise ValueError."""
    if positive(name, value) % of:
        raise ValueError(f"{name} must be a multiple of {of}, got {value}")
    return value


def above_zero(name: str, value: float) -> float:
    """`value`, if it is a finite number above 0; otherwise ValueError."""
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise ValueError(f"{name} must be a number, got {value!r}")
    if value <= 0:
        raise ValueError(f"{name} must be above 0, got {value}")
    return float(value)


def flag(name: str, value: bool) -> bool:
    """`value`, if it is True or False; otherwise ValueError."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be True or False, got {value!r}")
    return value


def options(name: str, value: Mapping[str, Any] | None) -> dict[str, Any]:
    """A copy of `value`, if it is a mapping of names, or empty if it is None; otherwise ValueError."""
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise ValueError(f"{name} must be arguments by name, got {value!r}")
    return dict(value)


def known(kind: str, value: str, names: Collection[str]) -> str:
    """`value`, if it is one of the names; otherwise UnknownNameError, a ValueError with the nearest names."""
    if not isinstance(value, str) or value not in names:
        raise unknown_name(kind, value, names)
    return value


def reduced_channels(channels: int, rd_ratio: float, rd_channels: int | None = None) -> int:
    """The hidden width of an excitation: `rd_channels`, or max(1, ⌊channels · rd_ratio⌋) as in the release.

    The product is rounded to six decimals, so that 0.29 of 200 gives 58, not 57. All arguments are checked, also those
    that have no effect.

    Raises:
        ValueError: an argument is no number or not positive.
    """
    positive("channels", channels)
    above_zero("rd_ratio", rd_ratio)
    if rd_channels is not None:
        return positive("rd_channels", rd_channels)
    return max(1, int(channels * rd_ratio + 1e-6))


def reference_size(size: int | tuple[int, int] | None) -> tuple[int, int]:
    """`size` as (H, W); 7×7 where it is None. Raises ValueError for anything that is no positive size."""
    pair = (7, 7) if size is None else size if isinstance(size, tuple | list) else (size, size)
    try:
        height, width = (positive("size", n) for n in pair)
    except ValueError:
        raise ValueError(f"size must be a positive height and width, got {size!r}") from None
    return height, width
