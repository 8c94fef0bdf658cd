"""`Op`, what every operation of the four sets is: a module with one signature, and the size and width conventions."""

from typing import Any

import torch
from torch import Tensor, nn


class Op(nn.Module):
    """Base of the operations; your own may derive from it, or be any module with the same signature.

    A derived class makes its parameters in `build`.

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
        self.channels = positive("channels", channels)
        self.build(reference_size(size), rd_ratio, device=device, dtype=dtype)

    def build(self, size: tuple[int, int], rd_ratio: float, **place: Any) -> None:
        """Make the parameters and layers, for `self.channels`; `place` has their device and dtype."""


class Excite(Op):
    """Base of the excitations, which a block can start as constants so that it does not change what it is put into."""

    def zero_gate(self) -> float:
        """Zero the last layer, keep earlier ones alive, and return the constant that the operation now gives."""
        raise TypeError(f"{type(self).__name__} does not define zero_gate(), so it cannot start as a constant")


def positive(name: str, value: int) -> int:
    """`value`, if it is at least 1; otherwise ValueError."""
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")
    return value


def reduced_channels(channels: int, rd_ratio: float, rd_channels: int | None = None) -> int:
    """The hidden width of an excitation: `rd_channels`, or max(1, ⌊channels · rd_ratio⌋) as the release has it.

    The product is taken to six decimals, so that a ratio such as 0.29 of 200 gives 58, not 57.

    Raises:
        ValueError: one of them is not positive.
    """
    positive("channels", channels)
    if rd_channels is not None:
        return positive("rd_channels", rd_channels)
    if rd_ratio <= 0:
        raise ValueError(f"rd_ratio must be above 0, got {rd_ratio}")
    return max(1, int(channels * rd_ratio + 1e-6))


def reference_size(size: int | tuple[int, int] | None) -> tuple[int, int]:
    """`size` as (H, W); 7×7 where it is None. Raises ValueError for anything that is no positive size."""
    pair = (7, 7) if size is None else (size, size) if isinstance(size, int) else size
    if not isinstance(pair, tuple | list) or len(pair) != 2 or not all(isinstance(n, int) and n > 0 for n in pair):
        raise ValueError(f"size must be a positive height and width, got {size!r}")
    return pair[0], pair[1]


def zero_(*values: Tensor | nn.Module) -> None:
    """Set tensors, and all parameters of modules, to 0 in place, outside autograd."""
    with torch.no_grad():
        for value in values:
            for parameter in value.parameters() if isinstance(value, nn.Module) else (value,):
                parameter.zero_()
