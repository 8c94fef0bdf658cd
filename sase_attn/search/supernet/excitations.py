"""`excite`: the mixed excitations of a super-network block, with their common work done once.

`MixedOp` is the definition. The first convolutions of all excitations become one convolution, later ones a grouped
convolution, and one sigmoid is applied to all logits. Other operations, such as your own, are evaluated by themselves.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sase_attn import statistics
from sase_attn.ops import channel_excite, spatial_excite


def excite(edges: Sequence[tuple[Sequence[nn.Module], Tensor]], x: Tensor) -> list[Tensor]:
    """Σ weight·op(x) for each of several edges with the same input x.

    Args:
        edges: the operations of each edge, and their weights (K,); all channel excitations, or all spatial ones.
        x: (B, C, 1, 1) for channel excitations, (B, 1, H, W) for spatial ones. Each sum has the same shape.
    """
    ops = [op for members, _ in edges for op in members]
    computed = _computed_together(ops, x)
    outputs = [computed[i] if i in computed else op(x) for i, op in enumerate(ops)]
    sums = []
    for members, weights in edges:
        sums.append(mixture(outputs[: len(members)], weights))
        outputs = outputs[len(members) :]
    return sums


def _computed_together(ops: Sequence[nn.Module], x: Tensor) -> dict[int, Tensor]:
    """Outputs of the operations whose work is shared, by their index among all."""
    outputs: dict[int, Tensor] = {}
    logits: dict[int, Tensor] = {}
    linear = [i for i, op in enumerate(ops) if type(op) in (channel_excite.FC, channel_excite.FCSigmoid)]
    if linear:
        for i, y in zip(linear, _fully_connected([ops[i] for i in linear], x), strict=True):
            (outputs if type(ops[i]) is channel_excite.FC else logits)[i] = y
    stacks = [i for i, op in enumerate(ops) if _is_stack(op)]
    if stacks:
        channel = isinstance(ops[stacks[0]], channel_excite.Conv1d)
        y = _convolved([_kernels(ops[i]) for i in stacks], x.flatten(1)[:, None] if channel else x)
        for place, i in enumerate(stacks):
            logits[i] = y[:, place, :, None, None] if channel else y[:, place : place + 1]
    if logits:
        gates = torch.sigmoid(torch.stack(list(logits.values())))
        outputs |= zip(logits, gates, strict=True)
    return outputs


def _is_stack(op: nn.Module) -> bool:
    """Whether an operation is just a stack of convolutions; a user's subclass may do more."""
    forwards = channel_excite.Conv1d.forward, spatial_excite.Conv2d.forward
    return isinstance(op, channel_excite.Conv1d | spatial_excite.Conv2d) and type(op).forward in forwards


def _fully_connected(ops: Sequence[nn.Module], x: Tensor) -> list[Tensor]:
    """Logits (B, C, 1, 1) of fully connected excitations: one product for first layers, a batched one for second."""
    first = torch.cat([op.fc1.weight[:, :, 0, 0] for op in ops]).to(x.dtype)  # type: ignore[union-attr,index]
    second = torch.stack([op.fc2.weight[:, :, 0, 0] for op in ops]).to(x.dtype)  # type: ignore[union-attr,index]
    hidden = torch.relu(statistics.matmul(x.flatten(1), first.t())).unflatten(1, (len(ops), -1))
    return list(statistics.matmul(hidden.transpose(0, 1), second.transpose(1, 2))[..., None, None])


def _kernels(op: nn.Module) -> list[Tensor]:
    """The kernels of an excitation's layers with a ReLU between them; layers without one become one kernel."""
    kernels = [op.first.weight, *(layer.weight for layer in op.rest)]  # type: ignore[union-attr]
    if getattr(op, "relu", True):
        return kernels
    row, column = kernels
    return [row * column]


def _convolved(stacks: Sequence[list[Tensor]], x: Tensor) -> Tensor:
    """(B, stacks, …): the last layer's output of every stack of convolutions over x (B, 1, …)."""
    with statistics.without_autocast(x):
        y = _conv([kernels[0] for kernels in stacks], x, groups=1)
        final = list(y.unbind(1))
        active = list(range(len(stacks)))
        for depth in range(1, max(map(len, stacks))):
            keep = [place for place, i in enumerate(active) if len(stacks[i]) > depth]
            active = [active[place] for place in keep]
            y = _conv([stacks[i][depth] for i in active], torch.relu(y[:, keep]), groups=len(active))
            for place, i in enumerate(active):
                final[i] = y[:, place]
        return torch.stack(final, 1)


def _conv(kernels: Sequence[Tensor], x: Tensor, groups: int) -> Tensor:
    """All kernels, padded with zeros to the largest, as the outputs of one convolution that keeps the size."""
    sizes = [max(sizes) for sizes in zip(*(kernel.shape[2:] for kernel in kernels), strict=True)]
    padded = []
    for kernel in kernels:
        margins = [(size - own) // 2 for size, own in zip(sizes, kernel.shape[2:], strict=True)]
        padded.append(F.pad(kernel, [margin for pair in reversed(margins) for margin in (pair, pair)]))
    weight = torch.cat(padded).to(x.dtype)
    convolve = F.conv1d if weight.dim() == 3 else F.conv2d
    return convolve(x, weight, padding=[size // 2 for size in sizes], groups=groups)


def mixture(outputs: Sequence[Tensor], weights: Tensor) -> Tensor:
    """Σ weight·output, of the shape of an output; `weights` (K,) may end in padding, which is left out."""
    stacked = torch.stack(list(outputs))
    row = weights[None, : len(outputs)].to(stacked.dtype)
    return statistics.matmul(row, stacked.flatten(1)).view(stacked.shape[1:])
