"""Triton: tiles of a map x = u·sign·scale + shift of which only u is stored; sign, scale and shift are per channel."""

import triton
import triton.language as tl


@triton.jit
def affine_rows(sign, scale_shift, c, known, C, SIGN: tl.constexpr, AFFINE: tl.constexpr):
    """Load sign, scale and shift of the channels c; 1, 1 and 0 if they are not given."""
    signs, scale, shift = 1.0, 1.0, 0.0
    if SIGN:
        signs = tl.load(sign + c, mask=known, other=0.0)
    if AFFINE:
        scale = tl.load(scale_shift + c, mask=known, other=0.0)
        shift = tl.load(scale_shift + C + c, mask=known, other=0.0)
    return signs, scale, shift


@triton.jit
def affine(v, signs, scale, shift, inside, SIGN: tl.constexpr, AFFINE: tl.constexpr):
    """u·sign and x for a tile of u, both 0 outside the map."""
    if SIGN:
        v = v * signs
    x = v
    if AFFINE:
        # Every kernel must round alike, because the backward pass finds a maximum by comparison.
        x = tl.where(inside, tl.fma(v, scale, shift), 0.0)
    return v, x
