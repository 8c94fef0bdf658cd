"""Triton: a map that is kept as another one, x = u·sign·scale + shift with a row a channel each, tile by tile."""

import triton
import triton.language as tl


@triton.jit
def affine_rows(sign, scale_shift, c, known, C, SIGN: tl.constexpr, AFFINE: tl.constexpr):
    """Sign, scale and shift of the channels c; 1, 1 and 0 where there are none."""
    signs, scale, shift = 1.0, 1.0, 0.0
    if SIGN:
        signs = tl.load(sign + c, mask=known, other=0.0)
    if AFFINE:
        scale = tl.load(scale_shift + c, mask=known, other=0.0)
        shift = tl.load(scale_shift + C + c, mask=known, other=0.0)
    return signs, scale, shift


@triton.jit
def affine(v, signs, scale, shift, inside, SIGN: tl.constexpr, AFFINE: tl.constexpr):
    """u·sign and x of a tile of u, both 0 outside."""
    if SIGN:
        v = v * signs
    x = v
    if AFFINE:
        # Rounded alike in every kernel: a maximum is found again by comparison.
        x = tl.where(inside, tl.fma(v, scale, shift), 0.0)
    return v, x
