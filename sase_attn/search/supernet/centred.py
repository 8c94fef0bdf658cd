"""Centred gates: excitations that start as one constant, so that alpha cannot rank them by what they start from.

A gate is a factor of the map before it has learned anything. An operation without a sigmoid starts at 0, the others at
a half, and alpha prefers whichever factor trains faster at the moment. Centred, an operation's last layer starts at
zero, as in a `SASEBlock`, and what its constant lacks to a half is added to it for good.
"""

from collections.abc import Callable

import torch
from torch import nn

from sase_attn.ops import Excite

COMMON = 0.5
"""What centred gates start from: a sigmoid of zero."""
DRAWS = 8


def starting_gate(op: nn.Module, build: Callable[[], nn.Module], shape: tuple[int, ...]) -> float:
    """Start an excitation as a constant, and return that; of one that knows no constant, its mean at the start.

    That mean is over draws of its weights and standardised inputs. It depends on the operation and not on the weights
    that this one has, so that a search which is resumed finds it again.

    Args:
        op: the operation, whose last layer becomes zero.
        build: makes it anew.
        shape: of an input: (1, C, 1, 1) or (1, 1, H, W).

    Raises:
        ValueError: the mean is no number.
    """
    if isinstance(op, Excite) and type(op).zero_gate is not Excite.zero_gate:
        return op.zero_gate()
    total = 0.0
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        for seed in range(DRAWS):
            torch.manual_seed(seed)
            total += build()(torch.randn(16, *shape[1:])).double().mean().item()
    if not abs(total) < float("inf"):
        raise ValueError(f"wanted an excitation with a mean to centre it by, got {total} from {type(op).__name__}")
    return total / DRAWS
