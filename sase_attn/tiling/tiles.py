"""Statistics over non-overlapping tiles of a map, and the way back from one value per tile to the map."""

import torch
import torch.nn.functional as F
from torch import Tensor

from sase_attn import statistics

Tile = tuple[int | None, int | None]
"""Rows and columns of a tile; None is the map's whole extent."""


def checked_tile(tile: Tile) -> Tile:
    """`tile` as a pair, if each side is None or a positive whole number; otherwise ValueError."""
    sides = tuple(tile) if isinstance(tile, tuple | list) else (tile,)
    whole = [side is None or (isinstance(side, int) and not isinstance(side, bool) and side > 0) for side in sides]
    if len(sides) != 2 or not all(whole):
        raise ValueError(f"a tile is (rows, columns), each at least 1 or None for the whole extent, got {tile!r}")
    return sides[0], sides[1]


@torch.fx.wrap
def tiled_mean(x: Tensor, rows: int | None, columns: int | None) -> Tensor:
    """Means over tiles, (B, C, H, W) → (B, C, ⌈H/rows⌉, ⌈W/columns⌉), in the type of `x`; None is the whole extent.

    Partial tiles at the lower and right border are averaged over their real elements. For a tile that covers the map,
    the result is exactly `x.mean((2, 3), keepdim=True)`.
    """
    rows, columns = _within(rows, x.shape[2]), _within(columns, x.shape[3])
    if rows is None and columns is None:
        return x.mean((2, 3), keepdim=True)
    wide = statistics.upcast(x)
    ones = wide.new_ones([1, 1, x.shape[2], x.shape[3]])
    sums = _in_tiles(_in_tiles(wide, 3, columns, 0.0).sum(4), 2, rows, 0.0).sum(3)
    counts = _in_tiles(_in_tiles(ones, 3, columns, 0.0).sum(4), 2, rows, 0.0).sum(3)
    return (sums / counts.clamp(min=1.0)).to(x.dtype)


@torch.fx.wrap
def tiled_maximum(x: Tensor, rows: int | None, columns: int | None) -> Tensor:
    """The largest element of each tile, in the shape of `tiled_mean`."""
    rows, columns = _within(rows, x.shape[2]), _within(columns, x.shape[3])
    if rows is None and columns is None:
        return x.amax((2, 3), keepdim=True)
    lowest = -float("inf")
    largest = _in_tiles(_in_tiles(x, 3, columns, lowest).amax(4), 2, rows, lowest).amax(3)
    return largest.masked_fill(largest == lowest, 0.0)  # in an export, the last tiles may be empty


@torch.fx.wrap
def over_tiles(gate: Tensor, x: Tensor, rows: int | None, columns: int | None) -> Tensor:
    """Expand one value per tile to one per element of `x`; an axis with a single tile keeps length 1, to broadcast."""
    rows, columns = _within(rows, x.shape[2]), _within(columns, x.shape[3])
    if rows is not None:
        gate = _repeated(gate, 2, rows, x.shape[2])
    if columns is not None:
        gate = _repeated(gate, 3, columns, x.shape[3])
    return gate


def _repeated(gate: Tensor, dim: int, side: int, size: int) -> Tensor:
    """Repeat every value `side` times along `dim`, and crop to `size`."""
    if _is_known(size):
        return gate.repeat_interleave(side, dim).narrow(dim, 0, size)
    # Indices do the same here, because an export cannot tell that a repeated axis is long enough to be cropped.
    return gate.index_select(dim, torch.arange(size, device=gate.device) // side)


def _in_tiles(x: Tensor, dim: int, side: int | None, fill: float) -> Tensor:
    """Split axis `dim` (2 or 3) into two, (tiles, elements of a tile), with the last tile filled up by `fill`."""
    if side is None:
        return x.unsqueeze(dim)
    size = x.shape[dim]
    if _is_known(size):
        missing = -size % side
        if missing > 0:
            x = F.pad(x, [0, missing] if dim == 3 else [0, 0, 0, missing], value=fill)
        return x.unflatten(dim, [-1, side])
    # An export cannot divide an open size exactly, and assumes that it is not 1. So tiles are taken by indices, and up
    # to two tiles are empty.
    starts = torch.arange(size // side + 2, device=x.device) * side
    index = starts[:, None] + torch.arange(side, device=x.device)
    missed = index >= size
    index = index.clamp(max=size - 1)
    if dim == 3:
        return x[:, :, :, index].masked_fill(missed, fill)
    return x[:, :, index].masked_fill(missed[:, :, None], fill)


def _within(side: int | None, size: int) -> int | None:
    """A tile's side, or None if it covers the map; if an export leaves the size open, the side is kept."""
    if side is None or (_is_known(size) and side >= size):
        return None
    return side


def _is_known(size: int) -> bool:
    """Whether code may branch on a size; it may not while a trace or export would record the branch for all sizes."""
    if torch.jit.is_scripting():
        return True
    if torch.jit.is_tracing():
        return False
    if torch.compiler.is_exporting():
        return isinstance(size, int) and not torch.compiler.is_dynamo_compiling()
    return True
