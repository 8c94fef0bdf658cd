"""`Op`: the base class of the operations of all four sets, which gives them one signature."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sase_attn.channel_axes import ChannelAxes
from sase_attn.ops.arguments import above_zero, positive, reference_size


class Op(ChannelAxes):
    """Base class of the operations; your own may derive from it, or be any module with the same signature.

    A derived class makes its parameters in `build`. Its `forward` begins with a check: `functional.check_input` for a
    map, `functional.check_values` for one value per channel.

    Args:
        channels: channels C of the map that the block sees.
        size: (H, W) at which per-position weights are stored, or one number for both; 7×7 where None. For a map of
            another size they are resized bilinearly, so that an operation accepts maps of every size.
        rd_ratio: width of the hidden layer of an FC excitation relative to C.

    Raises:
        ValueError: `channels`, `size` or `rd_ratio` is no number or not positive; or, when called, the input has not
            the shape of its set (see `create_op`) with H, W ≥ 1, or is not float16, bfloat16, float32 or float64.
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
        self.build(reference_size(size), above_zero("rd_ratio", rd_ratio), device=device, dtype=dtype)

    def build(self, size: tuple[int, int], rd_ratio: float, **place: Any) -> None:
        """Make the parameters and layers for `self.channels`; `place` holds `device` and `dtype` for them."""


class PerPosition(Op):
    """Base class of operations with a weight per position, (…, H, W); a loaded state dict may change that size."""

    per_position: tuple[str, ...] = ()
    """Names of the parameters with a weight per position."""

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *arguments: Any) -> None:
        for name in self.per_position:
            own, loaded = getattr(self, name), state_dict.get(f"{prefix}{name}")
            if loaded is not None and differs_in_size(own.shape, loaded.shape):
                resize_(own, loaded.shape)
        super()._load_from_state_dict(state_dict, prefix, *arguments)


def resize_(parameter: nn.Parameter, shape: Sequence[int]) -> None:
    """Give a parameter another shape, with uninitialised values. It remains the parameter that an optimizer holds."""
    parameter.grad = None
    # autograd remembers the old shape for gradients while a graph is alive. Only a change of dtype makes it forget.
    new = parameter.new_empty(list(shape))
    parameter.data = parameter.new_empty(0, dtype=torch.half if parameter.dtype == torch.float else torch.float)
    parameter.data = new


def differs_in_size(own: Sequence[int], other: Sequence[int]) -> bool:
    """Whether two shapes (…, H, W) differ in H and W only."""
    return own != other and len(own) == len(other) and own[:-2] == other[:-2]


class Excite(Op):
    """Base class of excitations that can start as a constant, so that a new block keeps a network's output."""

    def zero_gate(self) -> float:
        """Zero the last layer, keep earlier ones trainable, and return the constant that the operation now outputs."""
        raise TypeError(f"{type(self).__name__} does not define zero_gate(), so it cannot start as a constant")


def zero_(*values: Tensor | nn.Module) -> None:
    """Set tensors, and all parameters of modules, to 0 in place, outside autograd."""
    with torch.no_grad():
        for value in values:
            for parameter in value.parameters() if isinstance(value, nn.Module) else (value,):
                parameter.zero_()
