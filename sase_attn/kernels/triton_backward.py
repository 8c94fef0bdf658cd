"""Triton: the gradient of a map from all that was read of it, in one pass; the gradient of a weight, in another.

Of any statistic, dL/dv of an element v is a cubic in v whose coefficients belong to its channel or its position, plus
a share for those that are the maximum. A program holds tiles of channels and positions and walks the positions, so
that what belongs to a channel is loaded once and the gradient of its weight is a sum of its own.
"""

import triton
import triton.language as tl

from sase_attn.kernels.triton_reduce import CENTRAL, L4, MAXIMUM, MEAN, SMALLEST, STD, THIRD


@triton.jit
def _coefficients(values, grads, saved, at, keep, rows, n, WHICH: tl.constexpr):
    """Of dL/dv, at the places `at`; pointers to the rows behind."""
    constant, top, share, centre, slope, bend, inverse, pull = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    if (MEAN & WHICH) != 0:
        constant = tl.load(grads + at, mask=keep, other=0.0) / n
        values += rows
        grads += rows
    if (MAXIMUM & WHICH) != 0:
        top = tl.load(values + at, mask=keep, other=0.0)
        share = tl.load(grads + at, mask=keep, other=0.0) / tl.load(saved + at, mask=keep, other=1.0)
        values += rows
        grads += rows
        saved += rows
    if (CENTRAL & WHICH) != 0:
        centre = tl.load(saved + at, mask=keep, other=0.0)
        variance = tl.load(saved + rows + at, mask=keep, other=0.0)
        saved += 2 * rows
        if (STD & WHICH) != 0:
            std = tl.load(values + at, mask=keep, other=0.0)
            slope = tl.load(grads + at, mask=keep, other=0.0) / (n * tl.where(std == 0, 1.0, std))
            slope = tl.where(std == 0, 0.0, slope)
            values += rows
            grads += rows
        if (THIRD & WHICH) != 0:
            bend = 3.0 * tl.load(grads + at, mask=keep, other=0.0) / n
            constant = constant - bend * variance
            values += rows
            grads += rows
    if (L4 & WHICH) != 0:
        norm = tl.load(values + at, mask=keep, other=0.0)
        inverse = tl.where(norm < SMALLEST, 0.0, 1.0 / tl.maximum(norm, SMALLEST))
        pull = tl.load(grads + at, mask=keep, other=0.0)
        values += rows
        grads += rows
    return constant, top, share, centre, slope, bend, inverse, pull, values, grads, saved


@triton.jit
def _slope(v, constant, top, share, centre, slope, bend, inverse, pull, WHICH: tl.constexpr):
    """dL/dv."""
    g = tl.zeros_like(v) + constant
    if (MAXIMUM & WHICH) != 0:
        g += tl.where(v == top, share, 0.0)
    if (CENTRAL & WHICH) != 0:
        deviation = v - centre
        g += deviation * (slope + deviation * bend)
    if (L4 & WHICH) != 0:
        ratio = v * inverse
        g += pull * ratio * ratio * ratio
    return g


@triton.jit
def map_backward_kernel(
    x, g, channel, position, space_grads, space_values, space_saved, weight, grads, values, saved, dx,
    C, P, stride_c, stride_p, pieces, chunk, channels, positions, GATE: tl.constexpr, SPACE: tl.constexpr,
    PLAIN: tl.constexpr, WEIGHTED: tl.constexpr, ACC: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_P: tl.constexpr,
):  # fmt: skip
    """Sum of what the gates and each set of statistics have to say of dL/dx; a program for a piece of P of a tile."""
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
        constant, top, share, centre, slope, bend, inverse, pull, _, _, _ = _coefficients(
            space_values, space_grads, space_saved, at_c, keep, channels, n, SPACE
        )
    n = tl.full([], 0.0, ACC) + C
    start = program % pieces * chunk
    end = tl.minimum(start + chunk, P)
    for first in range(start, end, BLOCK_P):
        p = first + tl.arange(0, BLOCK_P)
        within = (p < end)[None, :]
        inside = keep & within
        place = b * C * P + (c[:, None] * stride_c + p[None, :] * stride_p)
        at_p = (b * P + p)[None, :]
        v = tl.zeros([BLOCK_C, BLOCK_P], ACC)
        if (SPACE | PLAIN | WEIGHTED) > MEAN:  # more than means: their gradients need the map
            v = tl.load(x + place, mask=inside, other=0.0).to(ACC)
        d = tl.zeros([BLOCK_C, BLOCK_P], ACC)
        if SPACE != 0:
            d += _slope(v, constant, top, share, centre, slope, bend, inverse, pull, SPACE)
        row, grad, kept = values, grads, saved
        if PLAIN != 0:
            constant_p, top_p, share_p, centre_p, slope_p, bend_p, inverse_p, pull_p, row, grad, kept = _coefficients(
                row, grad, kept, at_p, within, positions, n, PLAIN
            )
            d += _slope(v, constant_p, top_p, share_p, centre_p, slope_p, bend_p, inverse_p, pull_p, PLAIN)
        if WEIGHTED != 0:
            constant_p, top_p, share_p, centre_p, slope_p, bend_p, inverse_p, pull_p, row, grad, kept = _coefficients(
                row, grad, kept, at_p, within, positions, n, WEIGHTED
            )
            d += factor * _slope(
                v * factor, constant_p, top_p, share_p, centre_p, slope_p, bend_p, inverse_p, pull_p, WEIGHTED
            )
        if GATE:
            gates = first_gate + tl.load(position + at_p, mask=within, other=0.0)
            d += tl.load(g + place, mask=inside, other=0.0).to(ACC) * gates
        tl.store(dx + place, d.to(dx.dtype.element_ty), mask=inside)


@triton.jit
def weight_backward_kernel(
    x, weight, grads, values, saved, dweight, C, P, stride_c, stride_p, pieces, chunk, channels, positions,
    WEIGHTED: tl.constexpr, ACC: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_P: tl.constexpr,
):  # fmt: skip
    """Gradient of the weight of statistics over the channels, as partial sums of a piece, to be added in order."""
    program = tl.program_id(0)
    piece = program % pieces
    tiles = tl.cdiv(C, BLOCK_C)
    b = (program // pieces // tiles).to(tl.int64)
    c = (program // pieces % tiles) * BLOCK_C + tl.arange(0, BLOCK_C)
    keep = c < C
    positions = tl.full([], 0, tl.int64) + positions
    n = tl.full([], 0.0, ACC) + C
    factor = tl.load(weight + b * C + c, mask=keep, other=0.0)[:, None]
    total = tl.zeros([BLOCK_C, BLOCK_P], ACC)
    start = piece * chunk
    end = tl.minimum(start + chunk, P)
    for first in range(start, end, BLOCK_P):
        p = first + tl.arange(0, BLOCK_P)
        within = (p < end)[None, :]
        place = b * C * P + (c[:, None] * stride_c + p[None, :] * stride_p)
        v = tl.load(x + place, mask=keep[:, None] & within, other=0.0).to(ACC)
        constant, top, share, centre, slope, bend, inverse, pull, _, _, _ = _coefficients(
            values, grads, saved, (b * P + p)[None, :], within, positions, n, WEIGHTED
        )
        # v is 0 outside.
        total += v * _slope(v * factor, constant, top, share, centre, slope, bend, inverse, pull, WEIGHTED)
    tl.store(dweight + piece.to(tl.int64) * channels + b * C + c, tl.sum(total, 1), mask=keep)
