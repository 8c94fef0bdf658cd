"""Triton: the gradient of a map through all its statistics and gates in one pass; gradients per channel in another.

For any statistic, dL/dv of an element v is a polynomial whose coefficients belong to its channel or its position: a0 +
a1·(v − centre) + a2·(v − centre)² + a3·(v·inverse)³, plus `tied` if v is the maximum, `peak`. A program holds tiles of
channels and positions and loops over the positions, so that values per channel are loaded once, and the gradients of
weight, scale and shift are sums within the program.
"""

import triton
import triton.language as tl

from sase_attn.kernels.triton.affine import affine, affine_rows
from sase_attn.kernels.triton.reduce import CENTRAL, L4, MAXIMUM, MEAN, SMALLEST, STD, THIRD


@triton.jit
def _coefficients(values, grads, saved, at, keep, rows, n, WHICH: tl.constexpr):
    """Load the coefficients of dL/dv at the offsets `at`; also return pointers to the rows that follow."""
    a0, peak, tied, centre, a1, a2, inverse, a3 = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    if (MEAN & WHICH) != 0:
        a0 = tl.load(grads + at, mask=keep, other=0.0) / n
        values += rows
        grads += rows
    if (MAXIMUM & WHICH) != 0:
        peak = tl.load(values + at, mask=keep, other=0.0)
        tied = tl.load(grads + at, mask=keep, other=0.0) / tl.load(saved + at, mask=keep, other=1.0)
        values += rows
        grads += rows
        saved += rows
    if (CENTRAL & WHICH) != 0:
        centre = tl.load(saved + at, mask=keep, other=0.0)
        variance = tl.load(saved + rows + at, mask=keep, other=0.0)
        saved += 2 * rows
        if (STD & WHICH) != 0:
            std = tl.load(values + at, mask=keep, other=0.0)
            a1 = tl.load(grads + at, mask=keep, other=0.0) / (n * tl.where(std == 0, 1.0, std))
            a1 = tl.where(std == 0, 0.0, a1)
            values += rows
            grads += rows
        if (THIRD & WHICH) != 0:
            a2 = 3.0 * tl.load(grads + at, mask=keep, other=0.0) / n
            a0 = a0 - a2 * variance
            values += rows
            grads += rows
    if (L4 & WHICH) != 0:
        norm = tl.load(values + at, mask=keep, other=0.0)
        inverse = tl.where(norm < SMALLEST, 0.0, 1.0 / tl.maximum(norm, SMALLEST))
        a3 = tl.load(grads + at, mask=keep, other=0.0)
        values += rows
        grads += rows
    return a0, peak, tied, centre, a1, a2, inverse, a3, values, grads, saved


@triton.jit
def _slope(v, a0, peak, tied, centre, a1, a2, inverse, a3, WHICH: tl.constexpr):
    """dL/dv of the elements v, from its coefficients."""
    g = tl.zeros_like(v) + a0
    if (MAXIMUM & WHICH) != 0:
        g += tl.where(v == peak, tied, 0.0)
    if (CENTRAL & WHICH) != 0:
        deviation = v - centre
        g += deviation * (a1 + deviation * a2)
    if (L4 & WHICH) != 0:
        ratio = v * inverse
        g += a3 * ratio * ratio * ratio
    return g


@triton.jit
def map_backward_kernel(
    x, g, sign, scale_shift, channel, position, space_grads, space_values, space_saved, weight, grads, values, saved,
    dx, C, P, stride_c, stride_p, pieces, chunk, channels, positions, GATE: tl.constexpr, SPACE: tl.constexpr,
    UNWEIGHTED: tl.constexpr, WEIGHTED: tl.constexpr, SIGN: tl.constexpr, AFFINE: tl.constexpr, ACC: tl.constexpr,
    BLOCK_C: tl.constexpr, BLOCK_P: tl.constexpr,
):  # fmt: skip
    """The sum of dL/dx through the gates and each set of statistics; one program for each tile and piece of P.

    For a map u·sign·scale + shift, the result is dL/du, and the statistics over the positions are those of u·sign.
    """
    program = tl.program_id(0)
    tiles = tl.cdiv(C, BLOCK_C)
    b = (program // pieces // tiles).to(tl.int64)
    c = (program // pieces % tiles) * BLOCK_C + tl.arange(0, BLOCK_C)
    keep = (c < C)[:, None]
    at_c = (b * C + c)[:, None]
    channels = tl.full([], 0, tl.int64) + channels
    positions = tl.full([], 0, tl.int64) + positions
    if GATE:
        first_gate = tl.load(channel + at_c, mask=keep, other=0.0)
    if WEIGHTED != 0:
        factor = tl.load(weight + at_c, mask=keep, other=0.0)
    if SPACE != 0:
        n = tl.full([], 0.0, ACC) + P
        a0, peak, tied, centre, a1, a2, inverse, a3, _, _, _ = _coefficients(
            space_values, space_grads, space_saved, at_c, keep, channels, n, SPACE
        )
    n = tl.full([], 0.0, ACC) + C
    signs, scale, shift = affine_rows(sign, scale_shift, c[:, None], keep, C, SIGN, AFFINE)
    start = program % pieces * chunk
    end = tl.minimum(start + chunk, P)
    for first in range(start, end, BLOCK_P):
        p = first + tl.arange(0, BLOCK_P)
        within = (p < end)[None, :]
        inside = keep & within
        place = b * C * P + (c[:, None] * stride_c + p[None, :] * stride_p)
        at_p = (b * P + p)[None, :]
        v = tl.zeros([BLOCK_C, BLOCK_P], ACC)
        if (SPACE | UNWEIGHTED | WEIGHTED) > MEAN:  # gradients of means alone do not need the map
            v = tl.load(x + place, mask=inside, other=0.0).to(ACC)
        u, v = affine(v, signs, scale, shift, inside, SIGN, AFFINE)
        d = tl.zeros([BLOCK_C, BLOCK_P], ACC)
        row, grad, kept = values, grads, saved
        if UNWEIGHTED != 0:
            a0_p, peak_p, tied_p, centre_p, a1_p, a2_p, inverse_p, a3_p, row, grad, kept = _coefficients(
                row, grad, kept, at_p, within, positions, n, UNWEIGHTED
            )
            d += _slope(v, a0_p, peak_p, tied_p, centre_p, a1_p, a2_p, inverse_p, a3_p, UNWEIGHTED)
        if WEIGHTED != 0:
            a0_p, peak_p, tied_p, centre_p, a1_p, a2_p, inverse_p, a3_p, row, grad, kept = _coefficients(
                row, grad, kept, at_p, within, positions, n, WEIGHTED
            )
            d += factor * _slope(v * factor, a0_p, peak_p, tied_p, centre_p, a1_p, a2_p, inverse_p, a3_p, WEIGHTED)
        if GATE:
            gates = first_gate + tl.load(position + at_p, mask=within, other=0.0)
            d += tl.load(g + place, mask=inside, other=0.0).to(ACC) * gates
        if AFFINE:
            d *= scale
        if SPACE != 0:
            d += _slope(u, a0, peak, tied, centre, a1, a2, inverse, a3, SPACE)
        if SIGN:
            d *= signs
        tl.store(dx + place, d.to(dx.dtype.element_ty), mask=inside)


@triton.jit
def channels_backward_kernel(
    x, weight, sign, scale_shift, grads, values, saved, sums, C, P, stride_c, stride_p, pieces, chunk, channels,
    positions, UNWEIGHTED: tl.constexpr, WEIGHTED: tl.constexpr, SIGN: tl.constexpr, AFFINE: tl.constexpr,
    ACC: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_P: tl.constexpr,
):  # fmt: skip
    """The gradients of the weight and, if AFFINE, of scale and shift, through statistics over the channels.

    They are stored as partial sums of each piece and sample, to be added in order: scale, shift, weight, if needed.
    """
    program = tl.program_id(0)
    piece = program % pieces
    tiles = tl.cdiv(C, BLOCK_C)
    b = (program // pieces // tiles).to(tl.int64)
    c = (program // pieces % tiles) * BLOCK_C + tl.arange(0, BLOCK_C)
    keep = c < C
    channels = tl.full([], 0, tl.int64) + channels
    positions = tl.full([], 0, tl.int64) + positions
    n = tl.full([], 0.0, ACC) + C
    signs, scale, shift = affine_rows(sign, scale_shift, c[:, None], keep[:, None], C, SIGN, AFFINE)
    if WEIGHTED != 0:
        factor = tl.load(weight + b * C + c, mask=keep, other=0.0)[:, None]
    of_weight = tl.zeros([BLOCK_C, BLOCK_P], ACC)
    of_scale, of_shift = of_weight, of_weight
    start = piece * chunk
    end = tl.minimum(start + chunk, P)
    for first in range(start, end, BLOCK_P):
        p = first + tl.arange(0, BLOCK_P)
        within = (p < end)[None, :]
        inside = keep[:, None] & within
        place = b * C * P + (c[:, None] * stride_c + p[None, :] * stride_p)
        at_p = (b * P + p)[None, :]
        v = tl.load(x + place, mask=inside, other=0.0).to(ACC)
        u, v = affine(v, signs, scale, shift, inside, SIGN, AFFINE)
        row, grad, kept = values, grads, saved
        d = tl.zeros([BLOCK_C, BLOCK_P], ACC)
        if UNWEIGHTED != 0:
            a0, peak, tied, centre, a1, a2, inverse, a3, row, grad, kept = _coefficients(
                row, grad, kept, at_p, within, positions, n, UNWEIGHTED
            )
            d += _slope(v, a0, peak, tied, centre, a1, a2, inverse, a3, UNWEIGHTED)
        if WEIGHTED != 0:
            a0_w, peak_w, tied_w, centre_w, a1_w, a2_w, inverse_w, a3_w, row, grad, kept = _coefficients(
                row, grad, kept, at_p, within, positions, n, WEIGHTED
            )
            w = _slope(v * factor, a0_w, peak_w, tied_w, centre_w, a1_w, a2_w, inverse_w, a3_w, WEIGHTED)
            of_weight += v * w  # v is 0 outside the map
            d += factor * w
        if AFFINE:
            of_scale += u * d
            of_shift += d  # d is 0 outside the map, because the gradients of statistics are loaded as 0 there
    sums += piece.to(tl.int64) * channels * (2 * AFFINE + (WEIGHTED != 0)) + b * C + c
    if AFFINE:
        tl.store(sums, tl.sum(of_scale, 1), mask=keep)
        tl.store(sums + channels, tl.sum(of_shift, 1), mask=keep)
        sums += 2 * channels
    if WEIGHTED != 0:
        tl.store(sums, tl.sum(of_weight, 1), mask=keep)
