"""Triton: x·(channel + position), plus a shortcut, through a ReLU, in one pass; its gradients in another.

A program of the backward pass holds channels and walks positions: sums over positions are its own, those over channels
are added up from one number a tile and position. No atomics.
"""

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
def gate_backward_kernel(
    x, channel, position, y, g, dx, dchannel, dposition, dshortcut, C, P, stride_c, stride_p, pieces, chunk, channels,
    positions, SHORTCUT: tl.constexpr, RELU: tl.constexpr, ACC: tl.constexpr,
    BLOCK_C: tl.constexpr, BLOCK_P: tl.constexpr,
):  # fmt: skip
    """Gradients of `gate_kernel`; those of the gates as partial sums of a tile and a piece, to be added in order."""
    program = tl.program_id(0)
    piece = program % pieces
    tiles = tl.cdiv(C, BLOCK_C)
    tile = program // pieces % tiles
    b = (program // pieces // tiles).to(tl.int64)
    c = tile * BLOCK_C + tl.arange(0, BLOCK_C)
    keep = c < C
    first_gate = tl.load(channel + b * C + c, mask=keep, other=0.0)[:, None]
    total = tl.zeros([BLOCK_C, BLOCK_P], ACC)
    start = piece * chunk
    end = tl.minimum(start + chunk, P)
    for first in range(start, end, BLOCK_P):
        p = first + tl.arange(0, BLOCK_P)
        within = p < end
        inside = keep[:, None] & within[None, :]
        place = b * C * P + (c[:, None] * stride_c + p[None, :] * stride_p)
        grad = tl.load(g + place, mask=inside, other=0.0).to(ACC)
        if RELU:
            grad = tl.where(tl.load(y + place, mask=inside, other=0.0) <= 0, 0.0, grad)
        if SHORTCUT:
            tl.store(dshortcut + place, grad.to(dshortcut.dtype.element_ty), mask=inside)
        factor = first_gate + tl.load(position + b * P + p, mask=within, other=0.0)[None, :]
        tl.store(dx + place, (grad * factor).to(dx.dtype.element_ty), mask=inside)
        product = grad * tl.load(x + place, mask=inside, other=0.0).to(ACC)
        total += product
        tl.store(dposition + tile.to(tl.int64) * positions + b * P + p, tl.sum(product, 0), mask=within)
    tl.store(dchannel + piece.to(tl.int64) * channels + b * C + c, tl.sum(total, 1), mask=keep)
