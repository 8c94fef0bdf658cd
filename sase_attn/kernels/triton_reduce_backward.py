"""Triton: gradients of `reduce` in one read of the map, with the gradient of other uses of the map added on the way.

Of any statistic, dL/dv of an element v is a cubic in v whose coefficients belong to its channel or its position, plus
a share for those that are the maximum. A program holds tiles of channels and positions and walks the positions, so
that the gradient of a channel's weight is a sum of its own.
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
def space_backward_kernel(
    x, values, grads, saved, carried, dx, C, P, stride_c, stride_p, pieces, chunk, rows,
    WHICH: tl.constexpr, CARRIED: tl.constexpr, ACC: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_P: tl.constexpr,
):  # fmt: skip
    """Gradient of x from those of statistics over the positions, added to what is carried."""
    program = tl.program_id(0)
    tiles = tl.cdiv(C, BLOCK_C)
    b = (program // pieces // tiles).to(tl.int64)
    c = (program // pieces % tiles) * BLOCK_C + tl.arange(0, BLOCK_C)
    keep = c < C
    rows = tl.full([], 0, tl.int64) + rows
    n = tl.full([], 0.0, ACC) + P
    at = (b * C + c)[:, None]
    constant, top, share, centre, slope, bend, inverse, pull, _, _, _ = _coefficients(
        values, grads, saved, at, keep[:, None], rows, n, WHICH
    )
    start = program % pieces * chunk
    end = tl.minimum(start + chunk, P)
    for first in range(start, end, BLOCK_P):
        p = first + tl.arange(0, BLOCK_P)
        inside = keep[:, None] & (p < end)[None, :]
        place = b * C * P + (c[:, None] * stride_c + p[None, :] * stride_p)
        v = tl.load(x + place, mask=inside, other=0.0).to(ACC)
        g = _slope(v, constant, top, share, centre, slope, bend, inverse, pull, WHICH)
        if CARRIED:
            g += tl.load(carried + place, mask=inside, other=0.0).to(ACC)
        tl.store(dx + place, g.to(dx.dtype.element_ty), mask=inside)


@triton.jit
def channels_backward_kernel(
    x, weight, values, grads, saved, carried, dx, dweight, C, P, stride_c, stride_p, pieces, chunk, rows, channels,
    PLAIN: tl.constexpr, WEIGHTED: tl.constexpr, CARRIED: tl.constexpr, ACC: tl.constexpr,
    BLOCK_C: tl.constexpr, BLOCK_P: tl.constexpr,
):  # fmt: skip
    """Gradient of x from those of statistics over the channels, plain and weighted; of the weight in partial sums."""
    program = tl.program_id(0)
    piece = program % pieces
    tiles = tl.cdiv(C, BLOCK_C)
    b = (program // pieces // tiles).to(tl.int64)
    c = (program // pieces % tiles) * BLOCK_C + tl.arange(0, BLOCK_C)
    keep = c < C
    rows = tl.full([], 0, tl.int64) + rows
    n = tl.full([], 0.0, ACC) + C
    if WEIGHTED != 0:
        factor = tl.load(weight + b * C + c, mask=keep, other=0.0)[:, None]
    total = tl.zeros([BLOCK_C, BLOCK_P], ACC)
    start = piece * chunk
    end = tl.minimum(start + chunk, P)
    for first in range(start, end, BLOCK_P):
        p = first + tl.arange(0, BLOCK_P)
        within = (p < end)[None, :]
        inside = keep[:, None] & within
        place = b * C * P + (c[:, None] * stride_c + p[None, :] * stride_p)
        at = (b * P + p)[None, :]
        v = tl.load(x + place, mask=inside, other=0.0).to(ACC)
        g = tl.zeros([BLOCK_C, BLOCK_P], ACC)
        row, grad, kept = values, grads, saved
        if PLAIN != 0:
            constant, top, share, centre, slope, bend, inverse, pull, row, grad, kept = _coefficients(
                row, grad, kept, at, within, rows, n, PLAIN
            )
            g += _slope(v, constant, top, share, centre, slope, bend, inverse, pull, PLAIN)
        if WEIGHTED != 0:
            constant, top, share, centre, slope, bend, inverse, pull, row, grad, kept = _coefficients(
                row, grad, kept, at, within, rows, n, WEIGHTED
            )
            product = _slope(v * factor, constant, top, share, centre, slope, bend, inverse, pull, WEIGHTED)
            g += product * factor
            total += product * v  # v is 0 outside
        if CARRIED:
            g += tl.load(carried + place, mask=inside, other=0.0).to(ACC)
        tl.store(dx + place, g.to(dx.dtype.element_ty), mask=inside)
    if WEIGHTED != 0:
        tl.store(dweight + piece.to(tl.int64) * channels + b * C + c, tl.sum(total, 1), mask=keep)
