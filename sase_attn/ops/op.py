"""`Op`, what every operation of the four sets is: a module with one signature."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sase_attn.channel_axes import ChannelAxes
from sase_attn.ops.arguments import above_zero, positive, reference_size


class Op(ChannelAxes):
    """Base of the operations; your own may derive from it, or be any module with the same signature.

    A derived class makes its parameters in `build`. Its `forward` begins with a check: `functional.check_input` for a
    map, `functional.check_values` for one value a channel.

    Args:
        channels: channels C of the map that the block sees.
        size: (H, W) at which per-position weights are kept, or one number for both; 7×7 where None. At any other input
            size they are resized bilinearly, so that an operation takes maps of every size.
        rd_ratio: width of the hidden layer of an FC excitation relative to C.

    Raises:
        ValueError: `channels`, `size` or `rd_ratio` is no number or not positive; or, when called, the input is not
            what the set takes (see `create_op`): with H, W ≥ 1, of float16, bfloat16, float32 or float64.
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
        """Make the parameters and layers, for `self.channels`; `place` has their device and dtype."""


class PerPosition(Op):
    """Base of operations with weights for each position of a map, (…, H, W), which take the size of those they load."""

    per_position: tuple[str, ...] = ()
    """Names of these weights."""

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *arguments: Any) -> None:
        for name in self.per_position:
            own, loaded = getattr(self, name), state_dict.get(f"{prefix}{name}")
            if loaded is not None and differs_in_size(own.shape, loaded.shape):
                resize_(own, loaded.shape)
        super()._load_from_state_dict(state_dict, prefix, *arguments)


def resize_(parameter: nn.Parameter, shape: Sequence[int]) -> None:
    """Give a parameter another shape, without values. An optimizer made before still has it."""
    parameter.grad = None
    # A graph that is still alive expects gradients of the old shape. Only a change of dtype makes autograd forget it.
    new = parameter.new_empty(list(shape))
    parameter.data = parameter.new_empty(0, dtype=torch.half if parameter.dtype == torch.float else torch.float)
    parameter.data = new


def differs_in_size(own: Sequence[int], other: Sequence[int]) -> bool:
    """Whether two shapes (…, H, W) differ in H and W only."""
    return own != other and len(own) == len(other) and own[:-2] == other[:-2]


class Excite(Op):
    """Base of the excitations, which a block can start as constants so that it does not change what it is put into."""

    def zero_gate(self) -> float:
        """Zero the last layer, keep earlier ones alive, and return the constant that the operation now gives."""
        raise TypeError(f"{type(self).__name__} does not define zero_gate(), so it cannot start as a constant")


def zero_(*values: Tensor | nn.Module) -> None:
    """Set tensors, and all parameters of modules, to 0 in place, outside autograd."""
    with torch.no_grad():
        for value in values:
            for parameter in value.parameters() if isinstance(value, nn.Module) else (value,):
                parameter.zero_()
