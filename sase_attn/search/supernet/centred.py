"""Centred gates: every excitation of the output starts with the same gain, so that alpha cannot rank them by it.

Before it has learned anything, a gate is a factor of the map: about 0 for an operation without a sigmoid, about a half
for the others, depending on its initial weights. That factor makes a network train faster or slower, and alpha prefers
the faster. To centre a gate, a constant is added to each operation that brings its gain to a half, and the block is
divided by the gain that it then starts with. The inner mask is not changed, as the norm behind it removes any factor.

Drawn weights are centred on standardised maps and mixed squeezes; the gain of a sub-network is then near 1. It is
exactly 1 on every map if gates start as constants, as in a `SASEBlock`; but alpha learns little from constant gates.
"""

import copy

import torch
from torch import Tensor

from sase_attn.ops import Excite
from sase_attn.search.supernet.block import SearchBlock

COMMON = 0.5
"""The gain that a centred gate starts with: that of a sigmoid of zero."""
OUTPUT = ("channel_excite", "spatial_excite")
"""The edges that gate the output of a block."""


def centre_gates(block: SearchBlock, *, constant: bool = False) -> None:
    """Shift the output's excitations so that all start with the gain `COMMON`, and scale the block to start at gain 1.

    Call it before weights are loaded or trained: the shifts stay what they were at the start.

    Args:
        block: a block of a super-network.
        constant: zero the last layers of these excitations first, where they define `zero_gate()`.

    Raises:
        ValueError: the gain of an operation is not finite.
    """
    for op in (op for edge in OUTPUT for op in block.edges[edge] if constant):
        if isinstance(op, Excite) and type(op).zero_gate is not Excite.zero_gate:
            op.zero_gate()
    gains = starting_gains(block)
    weight = block.mix.weight
    for edge, values in gains.items():
        shifts = COMMON - torch.tensor(values, device=weight.device, dtype=weight.dtype)
        if not bool(shifts.isfinite().all()):
            names = block.shared_architecture.columns[edge]
            found = ", ".join(f"{name} {value:.3g}" for name, value in zip(names, values, strict=True))
            raise ValueError(f"wanted a starting gain of each operation of {edge} to centre it by, got {found}")
        block.edges[edge].centre(shifts)
    block.scale = 1 / (block.residual + COMMON)


@torch.no_grad()
def starting_gains(block: SearchBlock, images: int = 16, size: int = 14) -> dict[str, list[float]]:
    """For each edge of the output, the gain of each operation on standardised maps, with its present weights.

    It is the projection of gate·x on x, as in `sase_attn.attentions.measure_gain`, which is above the mean of a gate
    that is large where the map is large. Squeezes are mixed in equal parts; the block is left as it was.

    Args:
        block: a block of a super-network.
        images, size: number of maps, and their height and width.
    """
    twin = copy.deepcopy(block).train()
    twin.shared_architecture.alpha.zero_()
    weight = twin.mix.weight
    x = torch.randn(images, block.channels, size, size, generator=torch.Generator().manual_seed(0)).to(weight)
    energy = x.double().square()
    gains: dict[str, list[float]] = {edge: [] for edge in OUTPUT}

    def record(edge: str, gate: Tensor) -> None:
        gains[edge].append(((energy * gate).sum() / energy.sum()).item())

    for edge in OUTPUT:
        twin.edges[edge].shifts = None
        for op in twin.edges[edge]:
            op.register_forward_hook(lambda module, inputs, gate, edge=edge: record(edge, gate))
    twin.reference_forward(x)
    return gains
