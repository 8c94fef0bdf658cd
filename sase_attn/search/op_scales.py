"""How large the outputs of a super-network's operations are: an edge's mixture is mostly its largest ones."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from sase_attn.search.supernet.block import blocks_of, reference_mode


def op_scales(model: nn.Module, images: Tensor) -> dict[str, list[float]]:
    """For each edge, the root mean square of each operation's output, over all blocks and images.

    The network's mode decides which statistics norms take; running statistics stay as they are.
    """
    sums: dict[tuple[str, int], list[float]] = {}

    def watch(edge: str, column: int) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: object, output: Tensor) -> None:
            entry = sums.setdefault((edge, column), [0.0, 0.0])
            entry[0] += float(output.double().square().mean())
            entry[1] += 1

        return hook

    blocks = [block for _, block in blocks_of(model)]
    buffers = {buffer: buffer.clone() for buffer in model.buffers()}
    handles = [
        op.register_forward_hook(watch(edge, column))
        for block in blocks
        for edge, mixed in block.edges.items()
        for column, op in enumerate(mixed)
    ]
    try:
        with reference_mode(model), torch.no_grad():
            model(images)
    finally:
        for handle in handles:
            handle.remove()
        with torch.no_grad():
            for buffer, value in buffers.items():
                buffer.copy_(value)
    edges = blocks[0].shared_architecture.columns if blocks else {}
    return {
        edge: [(total / count) ** 0.5 for total, count in (sums[edge, k] for k in range(len(names)))]
        for edge, names in edges.items()
    }


def energy_shares(scales: dict[str, list[float]], weights: Tensor) -> dict[str, list[float]]:
    """For each edge, the part of Σ (weight·scale)² that each operation brings."""
    shares = {}
    for row, (edge, values) in enumerate(scales.items()):
        energy = [(float(weight) * value) ** 2 for weight, value in zip(weights[row], values, strict=False)]
        shares[edge] = [value / (sum(energy) or 1.0) for value in energy]
    return shares
