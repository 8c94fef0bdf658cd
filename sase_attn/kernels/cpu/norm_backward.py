"""Operators of the CPU that a batch-normalised map needs beside its own: gradients of its scale and shift."""

import torch
from torch import Tensor

from sase_attn.kernels.cpu.backward import ChannelSlopes
from sase_attn.kernels.cpu.chunks import Chunks
from sase_attn.kernels.cpu.gate_backward import Masked


def normalised_sums(
    u: Tensor, y: Tensor | None, g: Tensor, channel: Tensor, position: Tensor, sign: Tensor | None, scale_shift: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`sums` for x = u·sign·scale + shift; and Σ of dL/dx·u·sign and of dL/dx, (2, C), for a gated map.

    All from g and g·u·sign, each summed plainly and weighted by the gates: neither x nor dL/dx is in memory.
    Products are given memory here, because autocast would take others in bfloat16.
    """
    chunks = Chunks(u, sign, scale_shift)
    dchannel = u.new_empty((len(u), u.shape[1]), dtype=chunks.type)
    dposition = u.new_empty((len(u), u.shape[2] * u.shape[3]), dtype=chunks.type)
    daffine = torch.zeros((2, u.shape[1]), dtype=chunks.type)
    gradient = Masked(chunks, u, y, g)
    scale, shift = (row[None, None] for row in scale_shift)
    columns = torch.stack([torch.ones_like(position), position], 1).to(chunks.type)
    for part in chunks.parts:
        piece = gradient.piece(part)
        product = torch.mul(piece, chunks.raw(part), out=chunks.buffer("b", part))
        count, over = len(piece), dposition[part].unsqueeze(1)
        torch.bmm(scale.expand(count, -1, -1), product, out=over)
        over.baddbmm_(shift.expand(count, -1, -1), piece)
        # One product with two rows costs less than two sums over the positions.
        totals = daffine.new_empty((2, count, 2, u.shape[1]))
        for total, values in zip(totals, (product, piece), strict=True):
            torch.bmm(columns[part], values.transpose(1, 2), out=total)
        dchannel[part] = scale_shift[0] * totals[0, :, 0] + scale_shift[1] * totals[1, :, 0]
        for row, (unweighted, weighted) in enumerate(total.unbind(1) for total in totals):
            daffine[row] += (channel[part] * unweighted + weighted).sum(0)
    return dchannel, dposition, gradient.whole, daffine


def channels_backward(
    u: Tensor, weight: Tensor | None, grads: Tensor, values: Tensor, saved: Tensor, unweighted: int, weighted: int,
    sign: Tensor | None, scale_shift: Tensor,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """For statistics over the channels: Σ of dL/dx·u·sign and of dL/dx, (2, C); the gradient (B, C) of the weight.

    Without a weight its gradient has no elements. That of v = x·weight is summed like that of x, and x = u·sign·scale +
    shift makes both gradients of the sums: one pass over the map.
    """
    chunks = Chunks(u, sign, scale_shift)
    slopes = ChannelSlopes(chunks, weight, grads, values, saved, unweighted, weighted)
    sums = torch.zeros((2, 2, len(u), u.shape[1]), dtype=chunks.type)
    of_x, of_v = _sum_slopes(sums, chunks, slopes)
    if not of_v.isfinite().all():  # third powers of a map that is too large where its weight is small
        of_x, of_v = _sum_slopes(sums, chunks, slopes.with_care())
    if weight is None:
        return of_x.sum(1), of_v.new_empty(0)
    scale, shift = scale_shift
    return (of_x + weight.to(chunks.type) * of_v).sum(1), scale * of_v[0] + shift * of_v[1]


def _sum_slopes(sums: Tensor, chunks: Chunks, slopes: ChannelSlopes) -> Tensor:
    """Σ over the positions of d·u·sign and of d, for the part d of dL/dx that is not through v, and for dL/dv."""
    of_x, of_v = sums
    for part in chunks.parts:
        u, x = chunks.pair(part)
        d = slopes.unweighted(part, x)
        if d is not None:
            if d.shape[1] == 1:
                of_x[1, part] = d.sum(2)
                torch.bmm(d, u.transpose(1, 2), out=of_x[0, part].unsqueeze(1))
            else:
                _write_sums(of_x[:, part], d, u)
        product = slopes.of_product(part, x)
        if product is not None:
            slope, factor = product
            _write_sums(of_v[:, part], slope, u)
            if factor is not None:
                of_v[:, part] *= factor
    return sums


def _write_sums(sums: Tensor, d: Tensor, u: Tensor) -> None:
    """Sums over the positions of d·u and of d, which is lost."""
    torch.sum(d, 2, out=sums[1])
    torch.sum(d.mul_(u), 2, out=sums[0])
