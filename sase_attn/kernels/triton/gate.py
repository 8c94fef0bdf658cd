"""Triton: ReLU(x·(channel + position) + shortcut) in one pass, and the gradients of the gates in another."""

import triton
import triton.language as tl

from sase_attn.kernels.triton.affine import affine, affine_rows


@triton.jit
def gate_kernel(
    x, sign, scale_shift, channel, position, shortcut, y, C, P, stride_c, stride_p, pieces, chunk,
    SIGN: tl.constexpr, AFFINE: tl.constexpr, SHORTCUT: tl.constexpr, RELU: tl.constexpr, ACC: tl.constexpr,
    BLOCK_C: tl.constexpr, BLOCK_P: tl.constexpr,
):  # fmt: skip
    """y = ReLU(x·(channel + position) + shortcut), both optional; one program for each tile of C and piece of P."""
    program = tl.program_id(0)
    tiles = tl.cdiv(C, BLOCK_C)
    b = (program // pieces // tiles).to(tl.int64)
    c = (program // pieces % tiles) * BLOCK_C + tl.arange(0, BLOCK_C)
    keep = c < C
    first_gate = tl.load(channel + b * C + c, mask=keep, other=0.0)[:, None]
    signs, scale, shift = affine_rows(sign, scale_shift, c[:, None], keep[:, None], C, SIGN, AFFINE)
    start = program % pieces * chunk
    end = tl.minimum(start + chunk, P)
    for first in range(start, end, BLOCK_P):
        p = first + tl.arange(0, BLOCK_P)
        within = p < end
        inside = keep[:, None] & within[None, :]
        place = b * C * P + (c[:, None] * stride_c + p[None, :] * stride_p)
        v = tl.load(x + place, mask=inside, other=0.0).to(ACC)
        v = affine(v, signs, scale, shift, inside, SIGN, AFFINE)[1]
        v *= first_gate + tl.load(position + b * P + p, mask=within, other=0.0)[None, :]
        if SHORTCUT:
            v += tl.load(shortcut + place, mask=inside, other=0.0).to(ACC)
        if RELU:
            v = tl.where(v < 0, 0.0, v)
        tl.store(y + place, v.to(y.dtype.element_ty), mask=inside)


@triton.jit
def sums_kernel(
    x, y, g, sign, scale_shift, kept_gate, walked_gate, kept, walked, slopes, masked, K, R, stride_k, stride_r, pieces,
    chunk, kept_rows, walked_rows, RELU: tl.constexpr, SIGN: tl.constexpr, AFFINE: tl.constexpr,
    KEEPS_CHANNELS: tl.constexpr, ACC: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_R: tl.constexpr,
):  # fmt: skip
    """Sums of g·x over K and over R of (B, K, R), and g, set to 0 where the ReLU's output y is 0.

    There is one program for each tile of K and piece of R. It stores partial sums, over R for its piece and over K for
    its tile, to be added in order without atomics. K is the contiguous axis, whose tiles are long, so that there are
    few numbers to add. If AFFINE, it also stores the sums per channel of d·u·sign and of d, where d = g·gates is dL/dx.
    """
    program = tl.program_id(0)
    piece = program % pieces
    tiles = tl.cdiv(K, BLOCK_K)
    tile = program // pieces % tiles
    b = (program // pieces // tiles).to(tl.int64)
    k = tile * BLOCK_K + tl.arange(0, BLOCK_K)
    keep = k < K
    piece_64, tile_64 = piece.to(tl.int64), tile.to(tl.int64)
    total = tl.zeros([BLOCK_K, BLOCK_R], ACC)
    if AFFINE:
        first_gate = tl.load(kept_gate + b * K + k, mask=keep, other=0.0)[:, None]
        if KEEPS_CHANNELS:
            signs, scale, shift = affine_rows(sign, scale_shift, k[:, None], keep[:, None], K, SIGN, AFFINE)
            of_scale, of_shift = total, total
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
        grad = grad.to(ACC)
        v = tl.load(x + place, mask=inside, other=0.0).to(ACC)
        if AFFINE:
            if not KEEPS_CHANNELS:
                signs, scale, shift = affine_rows(sign, scale_shift, r[None, :], within[None, :], R, SIGN, AFFINE)
            u, v = affine(v, signs, scale, shift, inside, SIGN, AFFINE)
            d = grad * (first_gate + tl.load(walked_gate + b * R + r, mask=within, other=0.0)[None, :])
            if KEEPS_CHANNELS:
                of_scale += d * u
                of_shift += d
            else:
                row = slopes + tile_64 * walked_rows * 2 + b * R + r
                tl.store(row, tl.sum(d * u, 0), mask=within)
                tl.store(row + walked_rows, tl.sum(d, 0), mask=within)
        product = grad * v
        total += product
        tl.store(walked + tile_64 * walked_rows + b * R + r, tl.sum(product, 0), mask=within)
    tl.store(kept + piece_64 * kept_rows + b * K + k, tl.sum(total, 1), mask=keep)
    if AFFINE and KEEPS_CHANNELS:
        row = slopes + piece_64 * kept_rows * 2 + b * K + k
        tl.store(row, tl.sum(of_scale, 1), mask=keep)
        tl.store(row + kept_rows, tl.sum(of_shift, 1), mask=keep)
