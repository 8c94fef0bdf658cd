"""How a map lies in memory, and the tiles and pieces in which the kernels go over it."""

import torch
from torch import Tensor

TILE = 2048
"""Elements that a program holds at a time."""

PROGRAMS = 512
"""Programs that keep a large GPU busy: where there are fewer, the reduced axis is cut."""


def dense_format(x: Tensor) -> torch.memory_format:
    """channels_last where `x` is dense in it and not also contiguous; the kernels take these two layouts."""
    if not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last):
        return torch.channels_last
    return torch.contiguous_format


def strides(x: Tensor, layout: torch.memory_format) -> tuple[int, int]:
    """Elements from one channel, and from one position, to the next in a dense `x`."""
    _, channels, height, width = x.shape
    return (1, channels) if layout == torch.channels_last else (height * width, 1)


def power_of_two(n: int) -> int:
    """The smallest power of two that is not below n."""
    return 1 << max(0, n - 1).bit_length()


def tile(inner: int, outer: int) -> tuple[int, int]:
    """Extents of a tile along the contiguous axis and the other one: at most `TILE` elements, little of it padding."""
    along = power_of_two(inner)
    if along > 128:  # whole cache lines; the longest of those that pad least
        candidates = [size for size in (1024, 512, 256, 128) if size <= min(along, TILE)]
        along = min(candidates, key=lambda size: -(-inner // size) * size, default=min(along, TILE))
    along = min(along, TILE)
    return along, min(power_of_two(outer), TILE // along)


def cut(length: int, block: int, programs: int) -> tuple[int, int]:
    """Number of pieces that an axis is worked on in, and their length, a multiple of `block`, given the programs that
    there are without."""
    blocks = -(-length // block)
    pieces = min(blocks, max(1, PROGRAMS // max(1, programs)))
    chunk = -(-blocks // pieces) * block
    return -(-length // chunk), chunk


def walk(batch: int, channels: int, positions: int, stride_channel: int) -> tuple[int, int, int, int]:
    """Tiles of programs that hold channels and walk positions: their extents, and the pieces of `cut`."""
    if stride_channel == 1:
        block_c, block_p = tile(channels, positions)
    else:
        block_p, block_c = tile(positions, channels)
    return block_c, block_p, *cut(positions, block_p, batch * -(-channels // block_c))
