"""The operators for the CPU that a map behind a batch norm needs in addition: gradients of its scale and shift."""

import torch
from torch import Tensor

from sase_attn.kernels.cpu.backward import ChannelSlopes
from sase_attn.kernels.cpu.chunks import Chunks
from sase_attn.kernels.cpu.gate_backward import ReLUGradient


def normalised_sums(
    u: Tensor, y: Tensor | None, g: Tensor, channel: Tensor, position: Tensor, sign: Tensor | None, scale_shift: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`sums` for x = u·sign·scale + shift, and the gradients of scale and shift, (2, C), through the gates.

    The latter are Σ dL/dx·u·sign and Σ dL/dx. All results follow from sums of g and of g·u·sign, unweighted and
    weighted by the gates, so that neither x nor dL/dx is in memory. Products have `out=`, because autocast would
    compute them in bfloat16 otherwise.
    """
    chunks = Chunks(u, sign, scale_shift)
    dchannel = u.new_empty((len(u), u.shape[1]), dtype=chunks.type)
    dposition = u.new_empty((len(u), u.shape[2] * u.shape[3]), dtype=chunks.type)
    daffine = torch.zeros((2, u.shape[1]), dtype=chunks.type)
    gradient = ReLUGradient(chunks, u, y, g)
    scale, shift = (row[None, None] for row in scale_shift)
    columns = torch.stack([torch.ones_like(position), position], 1).to(chunks.type)
    for part in chunks.parts:
        piece = gradient.piece(part)
        product = torch.mul(piece, chunks.raw(part), out=chunks.buffer("b", part))
        count, over = len(piece), dposition[part].unsqueeze(1)
        torch.bmm(scale.expand(count, -1, -1), product, out=over)
        over.baddbmm_(shift.expand(count, -1, -1), piece)
        # One matrix product with two rows is faster than two sums over the positions.
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
    """Gradients through statistics over the channels: of scale and shift, (2, C), and of the weight, (B, C).

    The former are Σ dL/dx·u·sign and Σ dL/dx. The latter has no elements without a weight. One pass sums dL/dv, for
    v = x·weight, in the same two ways; with x = u·sign·scale + shift both gradients follow from the sums.
    """
    chunks = Chunks(u, sign, scale_shift)
    slopes = ChannelSlopes(chunks, weight, grads, values, saved, unweighted, weighted)
    sums = torch.zeros((2, 2, len(u), u.shape[1]), dtype=chunks.type)
    of_x, of_v = _sum_slopes(sums, chunks, slopes)
    if not of_v.isfinite().all():  # third powers of x overflow, although x·weight is small
        of_x, of_v = _sum_slopes(sums, chunks, slopes.avoiding_overflow())
    if weight is None:
        return of_x.sum(1), of_v.new_empty(0)
    scale, shift = scale_shift
    return (of_x + weight.to(chunks.type) * of_v).sum(1), scale * of_v[0] + shift * of_v[1]


def _sum_slopes(sums: Tensor, chunks: Chunks, slopes: ChannelSlopes) -> Tensor:
    """Σ d·u·sign and Σ d over the positions, for d = dL/dx without the part through v, and for d = dL/dv."""
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
    """Write the sums over the positions of d·u and of d; d is overwritten."""
    torch.sum(d, 2, out=sums[1])
    torch.sum(d.mul_(u), 2, out=sums[0])
