"""Operators of `chunked` that a batch-normalised map needs beside its own: gradients of its scale and shift."""

import torch
from torch import Tensor

from sase_attn.kernels.chunked import Masked
from sase_attn.kernels.chunked_backward import ChannelSlopes
from sase_attn.kernels.chunks import Affine, Chunks


def sums(
    u: Tensor, y: Tensor | None, g: Tensor, channel: Tensor, position: Tensor, affine: Affine
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`chunked.sums` for x = u·sign·scale + shift; and Σ of dL/dx·u·sign and of dL/dx, (2, C), for a gated map.

    All from g and g·u·sign, each summed plainly and weighted by the gates: neither x nor dL/dx is in memory.
    """
    chunks = Chunks(u, affine)
    dchannel = u.new_empty((len(u), u.shape[1]), dtype=chunks.type)
    dposition = u.new_empty((len(u), u.shape[2] * u.shape[3]), dtype=chunks.type)
    daffine = torch.zeros((2, u.shape[1]), dtype=chunks.type)
    gradient = Masked(chunks, u, y, g)
    rows = affine.rows()
    scale, shift = (row[None, None] for row in rows)
    for part in chunks:
        piece = gradient.piece(part)
        product = torch.mul(piece, chunks.raw(part), out=chunks.buffer("b", part))
        count = len(piece)
        over = torch.bmm(scale.expand(count, -1, -1), product) + torch.bmm(shift.expand(count, -1, -1), piece)
        dposition[part] = over[:, 0]
        plain = product.sum(2), piece.sum(2)
        dchannel[part] = rows[0] * plain[0] + rows[1] * plain[1]
        for row, values in enumerate((product, piece)):
            weighted = torch.mul(values, position[part].unsqueeze(1), out=chunks.buffer("a", part)).sum(2)
            daffine[row] += (channel[part] * plain[row] + weighted).sum(0)
    return dchannel, dposition, gradient.whole, daffine


def channel_sums(
    u: Tensor, weight: Tensor | None, grads: Tensor, values: Tensor, saved: Tensor, plain: int, weighted: int,
    affine: Affine,
) -> Tensor:  # fmt: skip
    """Σ of dL/dx·u·sign and of dL/dx, (2, C), for statistics over the channels."""
    chunks = Chunks(u, affine)
    daffine = torch.zeros((2, u.shape[1]), dtype=chunks.type)
    slopes = ChannelSlopes(chunks, weight, grads, values, saved, plain, weighted)
    for part in chunks:
        d = chunks.buffer("d", part)
        constant = slopes.constant(part)
        if constant is None:
            d.zero_()
        else:
            d.copy_(constant.unsqueeze(1))
        slopes.add(d, part, chunks.load(part))
        daffine[1] += d.sum(2).sum(0)
        daffine[0] += d.mul_(chunks.raw(part)).sum(2).sum(0)
    return daffine
