"""The operators of `operators.DEFINITIONS` for the CPU, in plain torch on pieces of a map that stay in its cache.

Not registered with torch: they are called from eager code only. Row `ties` of a maximum is not set: they are counted
in the backward pass.
"""

import torch
from torch import Tensor

from sase_attn.kernels import chunked_statistics, selection
from sase_attn.kernels.chunked_backward import gates_at, row_sets
from sase_attn.kernels.chunked_backward import map_backward as map_backward
from sase_attn.kernels.chunked_backward import weight_backward as weight_backward
from sase_attn.kernels.chunked_statistics import Weight
from sase_attn.kernels.chunks import Affine, Chunks

threshold_backward = torch.ops.aten.threshold_backward.grad_input  # that of a ReLU


def reduce(
    x: Tensor, weight: Tensor | None, over: int, plain: int, weighted: int, affine: Affine | None = None
) -> tuple[Tensor, Tensor]:
    """Statistics of x and of x·weight; rows of values, rows for the backward pass."""
    chunks = Chunks(x, affine)
    kept = x.shape[2] * x.shape[3] if over == 1 else x.shape[1]
    counts = plain.bit_count() + weighted.bit_count(), selection.saved_rows(plain) + selection.saved_rows(weighted)
    values, saved = (x.new_zeros((count, len(x), kept), dtype=chunks.type) for count in counts)
    first, second = row_sets(plain, weighted, values, saved)
    weight = None if weight is None else weight.to(chunks.type)
    factors = None if weight is None else Weight(weight)
    by_powers = second.names == ["l4"]
    for part in chunks:
        piece = chunks.load(part)
        chunked_statistics.write(first, chunks, part, piece, over)
        if factors is not None and by_powers:
            chunked_statistics.write_weighted_norm(second.of["l4"], factors, chunks, part, piece)
        elif weight is not None:
            product = torch.mul(piece, weight[part].unsqueeze(2), out=chunks.buffer("product", part))
            chunked_statistics.write(second, chunks, part, product, over)
    chunked_statistics.finish(first, None, chunks, over)
    if factors is not None and by_powers:
        chunked_statistics.finish(second, factors.relative, chunks, over)
        second.of["l4"].mul_(factors.largest)
    else:
        chunked_statistics.finish(second, weight, chunks, over)
    return values, saved


def gate(
    x: Tensor, channel: Tensor, position: Tensor, shortcut: Tensor | None, relu: bool, affine: Affine | None = None
) -> Tensor:
    """x·(channel + position) + shortcut, through a ReLU."""
    y = torch.empty_like(x, memory_format=selection.dense_format(x))
    return _gate_into(y, Chunks(x, affine), channel, position, shortcut, relu)


def gate_in_place(x: Tensor, channel: Tensor, position: Tensor, shortcut: Tensor | None, relu: bool) -> Tensor:
    """The same in the memory of x, if that is dense: new memory costs more than what is computed in it."""
    if not x.is_contiguous(memory_format=selection.dense_format(x)):
        return gate(x, channel, position, shortcut, relu)
    return _gate_into(x, Chunks(x), channel, position, shortcut, relu)


def sums(x: Tensor, y: Tensor | None, g: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Sums of g·x over the positions and over the channels; g, made 0 where y, the output behind a ReLU, is."""
    chunks = Chunks(x)
    channel = x.new_empty((len(x), x.shape[1]), dtype=chunks.type)
    position = x.new_empty((len(x), x.shape[2] * x.shape[3]), dtype=chunks.type)
    gradient = Masked(chunks, x, y, g)
    for part in chunks:
        product = torch.mul(gradient.piece(part), chunks.load(part), out=chunks.buffer("b", part))
        torch.sum(product, 2, out=channel[part])
        torch.sum(product, 1, out=position[part])
    return channel, position, gradient.whole


class Masked:
    """A gradient g like x behind a ReLU whose output is y, or behind none; `whole` is filled piece by piece."""

    def __init__(self, chunks: Chunks, x: Tensor, y: Tensor | None, g: Tensor) -> None:
        self._chunks, self._g = chunks, chunks.dense(g)
        self.whole = x.new_empty(0)
        if y is not None:
            self.whole = torch.empty_like(x, memory_format=selection.dense_format(x))
            self._out, self._y = chunks.dense(self.whole), chunks.dense(y)

    def piece(self, part: slice) -> Tensor:
        """A piece, 0 where y is, in the type that is computed in; kept in `whole` if there is a ReLU."""
        chunks = self._chunks
        piece = chunks.load_other(self._g, part, "g")
        if self.whole.numel() == 0:
            return piece
        shut = chunks.load_other(self._y, part, "a")
        piece = threshold_backward(piece, shut, 0, grad_input=chunks.target(self._out, part))
        chunks.store(self._out, part, piece)
        return piece


def _gate_into(
    y: Tensor, chunks: Chunks, channel: Tensor, position: Tensor, shortcut: Tensor | None, relu: bool
) -> Tensor:
    out = chunks.dense(y)
    other = None if shortcut is None else chunks.dense(shortcut)
    for part in chunks:
        factor = gates_at(channel, position, part, chunks.buffer("factor", part))
        piece = torch.mul(chunks.load(part), factor, out=chunks.target(out, part))
        if other is not None:
            piece.add_(other[part])
        if relu:
            piece.relu_()
        chunks.store(out, part, piece)
    return y
