"""Triton: x·(channel + position), plus a shortcut, through a ReLU, in one pass; gradients of the gates in another."""

import triton
import triton.language as tl


@triton.jit
def gate_kernel(
    x, channel, position, shortcut, y, C, P, stride_c, stride_p, pieces, chunk,
    SHORTCUT: tl.constexpr, RELU: tl.constexpr, ACC: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_P: tl.constexpr,
):  # fmt: skip
    """y = x·(channel + position), plus a shortcut, through a ReLU; a program for a piece of P of a tile of C."""
    program = tl.program_id(0)
    tiles = tl.cdiv(C, BLOCK_C)
    b = (program // pieces // tiles).to(tl.int64)
    c = (program // pieces % tiles) * BLOCK_C + tl.arange(0, BLOCK_C)
    keep = c < C
    first_gate = tl.load(channel + b * C + c, mask=keep, other=0.0)[:, None]
    start = program % pieces * chunk
    end = tl.minimum(start + chunk, P)
    for first in range(start, end, BLOCK_P):
        p = first + tl.arange(0, BLOCK_P)
        within = p < end
        inside = keep[:, None] & within[None, :]
        place = b * C * P + (c[:, None] * stride_c + p[None, :] * stride_p)
        v = tl.load(x + place, mask=inside, other=0.0).to(ACC)
        v *= first_gate + tl.load(position + b * P + p, mask=within, other=0.0)[None, :]
        if SHORTCUT:
            v += tl.load(shortcut + place, mask=inside, other=0.0).to(ACC)
        if RELU:
            v = tl.where(v < 0, 0.0, v)
        tl.store(y + place, v.to(y.dtype.element_ty), mask=inside)


@triton.jit
def sums_kernel(
    x, y, g, kept, walked, masked, K, R, stride_k, stride_r, pieces, chunk, kept_rows, walked_rows,
    RELU: tl.constexpr, ACC: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_R: tl.constexpr,
):  # fmt: skip
    """Sums of g·x over either axis of (B, K, R), and g, 0 where a ReLU gave y = 0; a program for a piece of a tile.

    Sums over R are partial ones of a piece, those over K of a tile, to be added in order: no atomics. K is the
    contiguous axis, whose tiles are long, so that there are few numbers to add.
    """
    program = tl.program_id(0)
    piece = program % pieces
    tiles = tl.cdiv(K, BLOCK_K)
    tile = program // pieces % tiles
    b = (program // pieces // tiles).to(tl.int64)
    k = tile * BLOCK_K + tl.arange(0, BLOCK_K)
    keep = k < K
    total = tl.zeros([BLOCK_K, BLOCK_R], ACC)
    start = piece * chunk
    end = tl.minimum(start + chunk, R)
    for first in range(start, end, BLOCK_R):
        r = first + tl.arange(0, BLOCK_R)
        within = r < end
        inside = keep[:, None] & within[None, :]
        place = b * K * R + (k[:, None] * stride_k + r[None, :] * stride_r)
        grad = tl.load(g + place, mask=inside, other=0.0)
        if RELU:
            grad = tl.where(tl.load(y + place, mask=inside, other=0.0) <= 0, 0.0, grad)
            tl.store(masked + place, grad, mask=inside)
        product = grad.to(ACC) * tl.load(x + place, mask=inside, other=0.0).to(ACC)
        total += product
        tl.store(walked + tile.to(tl.int64) * walked_rows + b * R + r, tl.sum(product, 0), mask=within)
    tl.store(kept + piece.to(tl.int64) * kept_rows + b * K + k, tl.sum(total, 1), mask=keep)
