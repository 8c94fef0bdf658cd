"""Inputs for the tests of the operations and of the block: seeded maps and parameters."""

import torch
from torch import Tensor, nn

from sase_attn.ops import OP_SETS

OPS = [(op_set, name) for op_set, ops in OP_SETS.items() for name in ops]
"""Every operation of the four sets, as (set, name)."""


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """A map of normal values, mean 0.3 and standard deviation 1.5, drawn in float64."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(shape, generator=generator, dtype=torch.float64) * 1.5 + 0.3).to(dtype)


def input_shape(op_set: str, batch: int, channels: int, height: int, width: int) -> tuple[int, int, int, int]:
    """The input shape of an operation of the set, in a block for maps (batch, channels, height, width)."""
    if op_set == "channel_excite":
        return batch, channels, 1, 1
    return batch, 1 if op_set == "spatial_excite" else channels, height, width


def output_shape(op_set: str, batch: int, channels: int, height: int, width: int) -> tuple[int, int, int, int]:
    """The output shape of an operation of the set, in a block for maps (batch, channels, height, width)."""
    return (batch, channels, 1, 1) if op_set.startswith("channel") else (batch, 1, height, width)


def randomise(module: nn.Module, seed: int = 0) -> nn.Module:
    """Make every parameter and running statistic non-default, and mostly positive, so that few ReLUs output only 0."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in module.state_dict().items():
        low, high = (0.5, 2.0) if name.endswith("running_var") else (-0.2, 0.8)
        if name.endswith(("mixer.weight", "mix.weight", "norm.weight", "norm.bias")):
            low = 0.2
        if value.is_floating_point():
            value.uniform_(low, high, generator=generator)
    return module
