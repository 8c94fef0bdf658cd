"""Gradients of the gates on the CPU, as sums over channels and positions, and the gradient behind the ReLU."""

import torch
from torch import Tensor

from sase_attn.kernels import layout
from sase_attn.kernels.cpu.chunks import Chunks

threshold_backward = torch.ops.aten.threshold_backward.grad_input  # the gradient of a ReLU


def sums(x: Tensor, y: Tensor | None, g: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Sums of g·x over the positions and over the channels, and g, set to 0 where the ReLU's output y is 0."""
    chunks = Chunks(x)
    channel = x.new_empty((len(x), x.shape[1]), dtype=chunks.type)
    position = x.new_empty((len(x), x.shape[2] * x.shape[3]), dtype=chunks.type)
    gradient = ReLUGradient(chunks, x, y, g)
    for part in chunks.parts:
        product = torch.mul(gradient.piece(part), chunks.load(part), out=chunks.buffer("b", part))
        torch.sum(product, 2, out=channel[part])
        torch.sum(product, 1, out=position[part])
    return channel, position, gradient.whole


class ReLUGradient:
    """The gradient g, set to 0 where the output y of a ReLU is 0, if y is given; `whole` is filled piece by piece."""

    def __init__(self, chunks: Chunks, x: Tensor, y: Tensor | None, g: Tensor) -> None:
        self._chunks, self._g = chunks, chunks.dense(g)
        self.whole = x.new_empty(0)
        if y is not None:
            self.whole = torch.empty_like(x, memory_format=layout.dense_format(x))
            self._out, self._y = chunks.dense(self.whole), chunks.dense(y)

    def piece(self, part: slice) -> Tensor:
        """A piece in the type of the computation, 0 where y is 0; with a ReLU it is also stored in `whole`."""
        chunks = self._chunks
        piece = chunks.load_other(self._g, part, "g")
        if self.whole.numel() == 0:
            return piece
        shut = chunks.load_other(self._y, part, "a")
        piece = threshold_backward(piece, shut, 0, grad_input=chunks.target(self._out, part))
        chunks.store(self._out, part, piece)
        return piece
