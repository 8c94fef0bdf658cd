"""The memory layout of a map, and the tiles and pieces in which kernels process it."""

import torch
from torch import Tensor

TILE = 2048
"""Elements that a Triton program holds at a time."""

PROGRAMS = 512
"""The number of Triton programs that keeps a large GPU busy; if there are fewer, the reduced axis is cut."""


def dense_format(x: Tensor) -> torch.memory_format:
    """channels_last if `x` has only that layout, otherwise contiguous; the kernels accept these two layouts."""
    if not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last):
        return torch.channels_last
    return torch.contiguous_format


def strides(x: Tensor, layout: torch.memory_format) -> tuple[int, int]:
    """The strides of channels and of positions in a dense `x`."""
    _, channels, height, width = x.shape
    return (1, channels) if layout == torch.channels_last else (height * width, 1)


def power_of_two(n: int) -> int:
    """The smallest power of two that is at least n."""
    return 1 << max(0, n - 1).bit_length()


def tile(inner: int, outer: int) -> tuple[int, int]:
    """Extents of a tile along the contiguous axis and the other one: at most `TILE` elements, with little padding."""
    along = power_of_two(inner)
    if along > 128:  # whole cache lines; of the extents with the least padding, the longest
        candidates = [size for size in (1024, 512, 256, 128) if size <= min(along, TILE)]
        along = min(candidates, key=lambda size: -(-inner // size) * size, default=min(along, TILE))
    along = min(along, TILE)
    return along, min(power_of_two(outer), TILE // along)


def cut(length: int, block: int, programs: int) -> tuple[int, int]:
    """The number of pieces to cut an axis into, and their length, a multiple of `block`.

    `programs` is the number of programs without a cut.
    """
    blocks = -(-length // block)
    pieces = min(blocks, max(1, PROGRAMS // max(1, programs)))
    chunk = -(-blocks // pieces) * block
    return -(-length // chunk), chunk


def walk(batch: int, channels: int, positions: int, stride_channel: int) -> tuple[int, int, int, int]:
    """For programs that hold channels and loop over positions: the extents of their tiles, and the pieces of `cut`."""
    if stride_channel == 1:
        block_c, block_p = tile(channels, positions)
    else:
        block_p, block_c = tile(positions, channels)
    return block_c, block_p, *cut(positions, block_p, batch * -(-channels // block_c))
