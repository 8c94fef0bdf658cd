"""The operators of `schemas.py` for the CPU: plain torch on pieces of a map that stay in its cache.

They are not registered with torch, because only eager code calls them. The saved row for the ties of a maximum is not
set, because the backward pass counts the ties itself.
"""

import torch
from torch import Tensor

from sase_attn.kernels import layout, spec
from sase_attn.kernels.cpu import piece_statistics
from sase_attn.kernels.cpu.backward import map_backward as map_backward
from sase_attn.kernels.cpu.backward import weight_backward as weight_backward
from sase_attn.kernels.cpu.chunks import Chunks
from sase_attn.kernels.cpu.gate_backward import sums as sums
from sase_attn.kernels.cpu.norm_backward import channels_backward as channels_backward
from sase_attn.kernels.cpu.norm_backward import normalised_sums as normalised_sums
from sase_attn.kernels.cpu.piece_statistics import Weight, row_sets


def reduce(
    x: Tensor, weight: Tensor | None, over: int, unweighted: int, weighted: int, sign: Tensor | None = None,
    scale_shift: Tensor | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Statistics of x and of x·weight: rows of values, and rows for the backward pass."""
    chunks = Chunks(x, sign, scale_shift)
    kept = x.shape[2] * x.shape[3] if over == 1 else x.shape[1]
    count, own = unweighted.bit_count() + weighted.bit_count(), spec.saved_rows(unweighted) + spec.saved_rows(weighted)
    values = x.new_zeros((count, len(x), kept), dtype=chunks.type)
    saved = x.new_zeros((own, len(x), kept), dtype=chunks.type)
    first, second = row_sets(unweighted, weighted, values, saved)
    weight = None if weight is None else weight.to(chunks.type)
    factors = None if weight is None else Weight(weight)
    by_powers = second.names == ("l4",)
    for part in chunks.parts:
        piece = chunks.load(part)
        piece_statistics.write(first, chunks, part, piece, over)
        if factors is not None and by_powers:
            piece_statistics.write_weighted_norm(second.of["l4"], factors, chunks, part, piece)
        elif weight is not None:
            product = torch.mul(piece, weight[part].unsqueeze(2), out=chunks.buffer("product", part))
            piece_statistics.write(second, chunks, part, product, over)
    if "l4" in first.of:
        piece_statistics.finish(first, None, chunks, over)
    if factors is not None and by_powers:
        piece_statistics.finish(second, factors.relative, chunks, over)
        second.of["l4"].mul_(factors.largest)
    elif "l4" in second.of:
        piece_statistics.finish(second, weight, chunks, over)
    return values, saved


def gate(
    x: Tensor, channel: Tensor, position: Tensor, shortcut: Tensor | None, relu: bool, sign: Tensor | None = None,
    scale_shift: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """x·(channel + position) + shortcut, through a ReLU if `relu`."""
    y = torch.empty_like(x, memory_format=layout.dense_format(x))
    return _gate_into(y, Chunks(x, sign, scale_shift), channel, position, shortcut, relu)


def gate_in_place(x: Tensor, channel: Tensor, position: Tensor, shortcut: Tensor | None, relu: bool) -> Tensor:
    """`gate` in the memory of x, if that is dense: allocating a new map takes longer than computing it."""
    if not x.is_contiguous(memory_format=layout.dense_format(x)):
        return gate(x, channel, position, shortcut, relu)
    return _gate_into(x, Chunks(x), channel, position, shortcut, relu)


def _gate_into(
    y: Tensor, chunks: Chunks, channel: Tensor, position: Tensor, shortcut: Tensor | None, relu: bool
) -> Tensor:
    out = chunks.dense(y)
    other = None if shortcut is None else chunks.dense(shortcut)
    for part in chunks.parts:
        gates = channel[part].unsqueeze(2), position[part].unsqueeze(1)
        factor = torch.add(*gates, out=chunks.buffer("factor", part))
        piece = torch.mul(chunks.load(part), factor, out=chunks.target(out, part))
        if other is not None:
            piece.add_(other[part])
        if relu:
            piece.relu_()
        chunks.store(out, part, piece)
    return y
