"""Triton: several statistics of a map over its positions or its channels in one read.

The map is (B, K, R): K is the kept axis, R the reduced one, with any strides. A program holds tiles of the two and
loops over the reduced axis. If there are too few programs to keep the device busy, the axis is cut: the sums of the
pieces go to memory, and a second kernel merges them in order. There are no atomics, so every run returns the same
bits. Moments are taken around the mean of each tile and merged by Chan's formulas. Fourth powers are those of elements
divided by the largest magnitude so far.
"""

import triton
import triton.language as tl

from sase_attn.kernels import spec
from sase_attn.kernels.triton.affine import affine, affine_rows

MEAN, MAXIMUM, STD, THIRD, L4 = (tl.constexpr(1 << i) for i in range(len(spec.COMPUTED)))
CENTRAL = tl.constexpr(STD.value | THIRD.value)
SMALLEST = tl.constexpr(2.0**-126)  # the smallest normal number, and the least by which elements are divided
STATE = tl.constexpr(8)  # numbers that describe a piece of the reduced axis


@triton.jit
def _absorb(
    v, inside, before, count, total, peak, ties, shift, centre, second, third, scale, fourth, WHICH: tl.constexpr
):
    """Update the state of `before` elements by the tile `v` of `count` more, which is 0 outside the map."""
    if (CENTRAL & WHICH) != 0:
        # Means are stored relative to that of the first tile: a large mean would round off the small steps of a merge.
        shift = tl.where(before == 0, tl.sum(v, 1) / count, shift)
        deviation = tl.where(inside, v - shift[:, None], 0.0)
        middle = tl.sum(deviation, 1) / count
        deviation = tl.where(inside, deviation - middle[:, None], 0.0)
        square = deviation * deviation
        squares = tl.sum(square, 1)
        n = before + count
        step = middle - centre
        cross = before * count / n
        third += tl.sum(square * deviation, 1) + step * step * step * cross * ((before - count) / n)
        third += 3.0 * step * (before * squares - count * second) / n
        second += squares + step * step * cross
        centre += step * (count / n)
    elif (MEAN & WHICH) != 0:
        total += v
    if (MAXIMUM & WHICH) != 0:
        known = tl.where(inside, v, float("-inf"))
        ties = tl.where(known > peak, 1, ties + ((known == peak) & inside).to(tl.int32))
        peak = tl.maximum(peak, known, propagate_nan=tl.PropagateNan.ALL)
    if (L4 & WHICH) != 0:
        larger = tl.maximum(scale, tl.max(tl.abs(v), 1))
        shrink = scale / larger
        square = v * (1.0 / larger)[:, None]
        square = square * square
        fourth = fourth * (shrink * shrink * shrink * shrink)[:, None] + square * square
        scale = larger
    return total, peak, ties, shift, centre, second, third, scale, fourth


@triton.jit
def _collapse(total, peak, ties, fourth, WHICH: tl.constexpr):
    """Reduce the values of a program's lanes to one number per kept element."""
    total_k, peak_k, ties_k, fourth_k = 0.0, 0.0, 0, 0.0
    if (MEAN & WHICH) != 0:
        total_k = tl.sum(total, 1)
    if (MAXIMUM & WHICH) != 0:
        unknown = tl.max((peak != peak).to(tl.int32), 1)
        peak_k = tl.max(tl.where(peak != peak, float("-inf"), peak), 1)
        ties_k = tl.sum(tl.where(peak == peak_k[:, None], ties, 0), 1)
        peak_k = tl.where(unknown > 0, float("nan"), peak_k)
    if (L4 & WHICH) != 0:
        fourth_k = tl.sum(fourth, 1)
    return total_k, peak_k, ties_k, fourth_k


@triton.jit
def _finish(values, saved, at, keep, rows, n, total, peak, ties, shift, centre, second, third, scale, fourth,
            WHICH: tl.constexpr):  # fmt: skip
    """Store the statistics and the rows for the backward pass; return pointers to the rows that follow."""
    if (MEAN & WHICH) != 0:
        if (CENTRAL & WHICH) != 0:
            tl.store(values + at, shift + centre, mask=keep)
        else:
            tl.store(values + at, total / n, mask=keep)
        values += rows
    if (MAXIMUM & WHICH) != 0:
        tl.store(values + at, peak, mask=keep)
        tl.store(saved + at, ties, mask=keep)
        values += rows
        saved += rows
    variance = tl.maximum(second / n, 0.0, propagate_nan=tl.PropagateNan.ALL)
    if (STD & WHICH) != 0:
        tl.store(values + at, tl.sqrt(variance), mask=keep)
        values += rows
    if (THIRD & WHICH) != 0:
        tl.store(values + at, third / n, mask=keep)
        values += rows
    if (CENTRAL & WHICH) != 0:
        tl.store(saved + at, shift + centre, mask=keep)
        saved += rows
        tl.store(saved + at, variance, mask=keep)
        saved += rows
    if (L4 & WHICH) != 0:
        tl.store(values + at, tl.sqrt(tl.sqrt(fourth)) * scale, mask=keep)
        values += rows
    return values, saved


@triton.jit
def _write(state, at, keep, rows, total, peak, ties, shift, centre, second, third, scale, fourth, WHICH: tl.constexpr):
    """Store the state of one piece; return the pointer to the next piece."""
    if (CENTRAL & WHICH) != 0:
        tl.store(state + at, centre, mask=keep)
    elif (MEAN & WHICH) != 0:
        tl.store(state + at, total, mask=keep)
    if (MAXIMUM & WHICH) != 0:
        tl.store(state + rows + at, peak, mask=keep)
        tl.store(state + 2 * rows + at, ties, mask=keep)
    if (CENTRAL & WHICH) != 0:
        tl.store(state + 3 * rows + at, second, mask=keep)
        tl.store(state + 4 * rows + at, third, mask=keep)
        tl.store(state + 7 * rows + at, shift, mask=keep)
    if (L4 & WHICH) != 0:
        tl.store(state + 5 * rows + at, scale, mask=keep)
        tl.store(state + 6 * rows + at, fourth, mask=keep)
    return state + rows * STATE


@triton.jit
def reduce_kernel(
    x, weight, sign, scale_shift, values, saved, state, K, R, stride_k, stride_r, pieces, chunk, rows,
    UNWEIGHTED: tl.constexpr, WEIGHTED: tl.constexpr, SIGN: tl.constexpr, AFFINE: tl.constexpr,
    OF_CHANNELS: tl.constexpr, CUT: tl.constexpr, ACC: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_R: tl.constexpr,
):  # fmt: skip
    """Statistics of K rows over R; one program for each tile of rows and piece. If CUT, `merge_kernel` completes them.

    K is the axis of channels if OF_CHANNELS, otherwise R is.
    """
    program = tl.program_id(0)
    piece = program % pieces
    tiles = tl.cdiv(K, BLOCK_K)
    b = (program // pieces // tiles).to(tl.int64)
    k = (program // pieces % tiles) * BLOCK_K + tl.arange(0, BLOCK_K)
    keep = k < K
    x += b * K * R
    rows = tl.full([], 0, tl.int64) + rows
    start = piece * chunk
    end = tl.minimum(start + chunk, R)

    total = tl.zeros([BLOCK_K, BLOCK_R], ACC)
    peak = tl.full([BLOCK_K, BLOCK_R], float("-inf"), ACC)
    ties = tl.zeros([BLOCK_K, BLOCK_R], tl.int32)
    fourth = tl.zeros([BLOCK_K, BLOCK_R], ACC)
    shift = tl.zeros([BLOCK_K], ACC)
    centre = tl.zeros([BLOCK_K], ACC)
    second = tl.zeros([BLOCK_K], ACC)
    third = tl.zeros([BLOCK_K], ACC)
    scale = tl.full([BLOCK_K], SMALLEST, ACC)
    # The same state for the weighted map.
    w_total, w_peak, w_ties, w_fourth = total, peak, ties, fourth
    w_shift, w_centre, w_second, w_third, w_scale = shift, centre, second, third, scale
    if OF_CHANNELS:
        sign_c, scale_c, shift_c = affine_rows(sign, scale_shift, k[:, None], keep[:, None], K, SIGN, AFFINE)
    for first in range(start, end, BLOCK_R):
        r = first + tl.arange(0, BLOCK_R)
        inside = keep[:, None] & (r < end)[None, :]
        v = tl.load(x + k[:, None] * stride_k + r[None, :] * stride_r, mask=inside, other=0.0).to(ACC)
        if not OF_CHANNELS:
            sign_c, scale_c, shift_c = affine_rows(sign, scale_shift, r[None, :], (r < end)[None, :], R, SIGN, AFFINE)
        v = affine(v, sign_c, scale_c, shift_c, inside, SIGN, AFFINE)[1]
        before = (first - start).to(ACC)
        count = tl.minimum(end - first, BLOCK_R).to(ACC)
        if UNWEIGHTED != 0:
            total, peak, ties, shift, centre, second, third, scale, fourth = _absorb(
                v, inside, before, count, total, peak, ties, shift, centre, second, third, scale, fourth, UNWEIGHTED
            )
        if WEIGHTED != 0:
            factor = tl.load(weight + b * R + r, mask=r < end, other=0.0)
            w_total, w_peak, w_ties, w_shift, w_centre, w_second, w_third, w_scale, w_fourth = _absorb(
                v * factor[None, :], inside, before, count,
                w_total, w_peak, w_ties, w_shift, w_centre, w_second, w_third, w_scale, w_fourth, WEIGHTED,
            )  # fmt: skip

    at = b * K + k
    total_k, peak_k, ties_k, fourth_k = _collapse(total, peak, ties, fourth, UNWEIGHTED)
    w_total_k, w_peak_k, w_ties_k, w_fourth_k = _collapse(w_total, w_peak, w_ties, w_fourth, WEIGHTED)
    if CUT:
        state += piece.to(tl.int64) * rows * (STATE * ((UNWEIGHTED != 0) + (WEIGHTED != 0)))
        if UNWEIGHTED != 0:
            state = _write(
                state,
                at,
                keep,
                rows,
                total_k,
                peak_k,
                ties_k,
                shift,
                centre,
                second,
                third,
                scale,
                fourth_k,
                UNWEIGHTED,
            )
        if WEIGHTED != 0:
            _write(state, at, keep, rows, w_total_k, w_peak_k, w_ties_k, w_shift, w_centre, w_second, w_third, w_scale,
                   w_fourth_k, WEIGHTED)  # fmt: skip
    else:
        n = tl.full([], 0.0, ACC) + R
        if UNWEIGHTED != 0:
            values, saved = _finish(
                values,
                saved,
                at,
                keep,
                rows,
                n,
                total_k,
                peak_k,
                ties_k,
                shift,
                centre,
                second,
                third,
                scale,
                fourth_k,
                UNWEIGHTED,
            )
        if WEIGHTED != 0:
            _finish(values, saved, at, keep, rows, n, w_total_k, w_peak_k, w_ties_k, w_shift, w_centre, w_second,
                    w_third, w_scale, w_fourth_k, WEIGHTED)  # fmt: skip


@triton.jit
def _merge(values, saved, state, at, keep, rows, R, pieces, chunk, step, WHICH: tl.constexpr, ACC: tl.constexpr,
           BLOCK: tl.constexpr):  # fmt: skip
    """Merge the pieces of one set of statistics in order, and store them; return pointers to the rows that follow."""
    total = tl.zeros([BLOCK], ACC)
    peak = tl.full([BLOCK], float("-inf"), ACC)
    ties = tl.zeros([BLOCK], tl.int32)
    shift = tl.zeros([BLOCK], ACC)
    centre = tl.zeros([BLOCK], ACC)
    second = tl.zeros([BLOCK], ACC)
    third = tl.zeros([BLOCK], ACC)
    scale = tl.full([BLOCK], SMALLEST, ACC)
    fourth = tl.zeros([BLOCK], ACC)
    for piece in range(pieces):
        before = (piece * chunk).to(ACC)
        count = tl.minimum(R - piece * chunk, chunk).to(ACC)
        if (CENTRAL & WHICH) != 0:
            squares = tl.load(state + 3 * rows + at, mask=keep, other=0.0)
            n = before + count
            own = tl.load(state + 7 * rows + at, mask=keep, other=0.0)
            shift = tl.where(before == 0, own, shift)
            move = (own - shift) + tl.load(state + at, mask=keep, other=0.0) - centre
            cross = before * count / n
            third += tl.load(state + 4 * rows + at, mask=keep, other=0.0)
            third += move * move * move * cross * ((before - count) / n)
            third += 3.0 * move * (before * squares - count * second) / n
            second += squares + move * move * cross
            centre += move * (count / n)
        elif (MEAN & WHICH) != 0:
            total += tl.load(state + at, mask=keep, other=0.0)
        if (MAXIMUM & WHICH) != 0:
            found = tl.load(state + rows + at, mask=keep, other=0.0)
            sharing = tl.load(state + 2 * rows + at, mask=keep, other=0.0).to(tl.int32)
            ties = tl.where(found > peak, sharing, tl.where(found == peak, ties + sharing, ties))
            peak = tl.maximum(peak, found, propagate_nan=tl.PropagateNan.ALL)
        if (L4 & WHICH) != 0:
            own = tl.load(state + 5 * rows + at, mask=keep, other=1.0)
            larger = tl.maximum(scale, own)
            shrink = scale / larger
            fourth *= shrink * shrink * shrink * shrink
            shrink = own / larger
            fourth += tl.load(state + 6 * rows + at, mask=keep, other=0.0) * (shrink * shrink * shrink * shrink)
            scale = larger
        state += step
    n = tl.full([], 0.0, ACC) + R
    return _finish(
        values, saved, at, keep, rows, n, total, peak, ties, shift, centre, second, third, scale, fourth, WHICH
    )


@triton.jit
def merge_kernel(
    values, saved, state, R, pieces, chunk, rows,
    UNWEIGHTED: tl.constexpr, WEIGHTED: tl.constexpr, ACC: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Merge the states of the pieces of each row, in their order, and complete the statistics."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    rows = tl.full([], 0, tl.int64) + rows
    keep = at < rows
    step = rows * (STATE * ((UNWEIGHTED != 0) + (WEIGHTED != 0)))
    if UNWEIGHTED != 0:
        values, saved = _merge(values, saved, state, at, keep, rows, R, pieces, chunk, step, UNWEIGHTED, ACC, BLOCK)
        state += rows * STATE
    if WEIGHTED != 0:
        _merge(values, saved, state, at, keep, rows, R, pieces, chunk, step, WEIGHTED, ACC, BLOCK)
