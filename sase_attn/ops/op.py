"""`Op`, what every operation of the four sets is: a module with one signature, and the size and width conventions."""

import torch
from torch import Tensor, nn


class Op(nn.Module):
    """Base of the operations; your own may derive from it, or be any module with the same signature.

    Args:
        channels: channels C of the map that the block sees.
        size: (H, W) at which per-position weights are kept, or one number for both; 7×7 where None. At any other input
            size they are resized bilinearly, so that an operation takes maps of every size.
        rd_ratio: width of the hidden layer of an FC excitation relative to C.

    Raises:
        ValueError: `channels` or `size` is not positive.
    """

    def __init__(
        self,
        channels: int,
        *,
        size: int | tuple[int, int] | None = None,
        rd_ratio: float = 1 / 16,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if channels < 1:
            raise ValueError(f"channels must be at least 1, got {channels}")
        reference_size(size)  # raises for a wrong one, whether or not the operation keeps weights per position
        self.channels = channels


class Excite(Op):
    """Base of the excitations, which a block can start as constants so that it does not change what it is put into."""

    def zero_gate(self) -> float:
        """Zero the last layer, keep earlier ones alive, and return the constant that the operation now gives."""
        raise TypeError(f"{type(self).__name__} does not define zero_gate(), so it cannot start as a constant")


def reduced_channels(channels: int, rd_ratio: float) -> int:
    """Width between the two layers of the FC excitation: max(1, ⌊channels · rd_ratio⌋), as the release has it."""
    return max(1, int(channels * rd_ratio + 1e-6))


def reference_size(size: int | tuple[int, int] | None) -> tuple[int, int]:
    """`size` as (H, W); 7×7 where it is None. Raises ValueError for anything that is no positive size."""
    pair = (7, 7) if size is None else (size, size) if isinstance(size, int) else size
    if not isinstance(pair, tuple | list) or len(pair) != 2 or not all(isinstance(n, int) and n > 0 for n in pair):
        raise ValueError(f"size must be a positive height and width, got {size!r}")
    return pair[0], pair[1]


def zero_(*parameters: Tensor) -> None:
    """Set to 0 in place, outside autograd."""
    with torch.no_grad():
        for parameter in parameters:
            parameter.zero_()
