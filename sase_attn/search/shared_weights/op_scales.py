"""How large the outputs of a super-network's operations are. The largest ones dominate the mixture of an edge."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from sase_attn.search.shared_weights.restore import restored
from sase_attn.search.supernet.block import MixedOp, blocks_of, reference_mode


def op_scales(model: nn.Module, images: Tensor) -> dict[str, list[float]]:
    """For each edge, the root mean square of each operation's output with its shift, over all blocks and images.

    The network's mode decides which statistics norms use; running statistics stay as they are.
    """
    squares: dict[tuple[str, int], list[float]] = {}

    def watch(edge: str, mixed: MixedOp, column: int) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: object, output: Tensor) -> None:
            value = mixed.shifted(output, column).double()
            squares.setdefault((edge, column), []).append(float(value.square().mean()))

        return hook

    blocks = [block for _, block in blocks_of(model)]
    handles = [
        op.register_forward_hook(watch(edge, mixed, column))
        for block in blocks
        for edge, mixed in block.edges.items()
        for column, op in enumerate(mixed)
    ]
    try:
        with restored(model.buffers()), reference_mode(model), torch.no_grad():
            model(images)
    finally:
        for handle in handles:
            handle.remove()
    edges = blocks[0].shared_architecture.columns if blocks else {}
    return {
        edge: [(sum(squares[edge, column]) / len(squares[edge, column])) ** 0.5 for column in range(len(names))]
        for edge, names in edges.items()
    }


def energy_fractions(scales: dict[str, list[float]], weights: Tensor) -> dict[str, list[float]]:
    """For each edge, the part of each operation in Σ (weight·scale)²; the parts sum to 1.

    Args:
        scales: the scales of each edge's operations, from `op_scales`.
        weights: (6, K), the weights of the operations, one row for each edge.
    """
    fractions = {}
    for row, (edge, values) in enumerate(scales.items()):
        energy = [(float(weight) * value) ** 2 for weight, value in zip(weights[row], values, strict=False)]
        fractions[edge] = [value / (sum(energy) or 1.0) for value in energy]
    return fractions
