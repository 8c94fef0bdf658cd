"""Modules with simple parameters, for tests whose expected values are worked out by hand."""

from collections.abc import Mapping
from math import exp, log

import torch
from tolerances import assert_close
from torch import nn

EPS = 1e-5  # the eps of every norm in these tests
L3 = log(3)  # sigmoid(L3) = 3/4, sigmoid(-L3) = 1/4


def sigmoid(value: float) -> float:
    return 1 / (1 + exp(-value))


def filled(module: nn.Module, values: Mapping[str, object] | None = None) -> nn.Module:
    """The module in float64 and eval mode: batch norms are identities, `values` are by parameter name, others are 0."""
    state = module.double().eval().state_dict()
    for name, value in state.items():
        is_norm = name.endswith("running_var") or name.removesuffix("weight") + "running_var" in state
        value.fill_((1 - EPS if name.endswith("running_var") else 1) if is_norm else 0)
    for name, value in (values or {}).items():
        state[name].copy_(torch.tensor(value, dtype=torch.float64).reshape(state[name].shape))
    return module


def tap(size: int, row: int, column: int) -> list[list[float]]:
    """A square kernel with a single 1 at (row, column) from its centre, so that the output at p is the input at
    p + (row, column)."""
    centre = size // 2
    return [[float((i, j) == (centre + row, centre + column)) for j in range(size)] for i in range(size)]


def times(kernel: list[list[float]], factor: float) -> list[list[float]]:
    return [[factor * value for value in row] for row in kernel]


def check(module: nn.Module, x: object, y: object) -> None:
    """Check that the module maps `x` to `y`, both given without their batch axis."""
    x, y = (torch.tensor(value, dtype=torch.float64)[None] for value in (x, y))
    assert_close(module(x).detach(), y, tolerance=1e-9)
