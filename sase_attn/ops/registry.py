"""The four operation sets by name: `create_op`, `list_ops`, `register_op`."""

import inspect

import torch
from torch import nn

from sase_attn.ops.arguments import known
from sase_attn.ops.channel_excite import CHANNEL_EXCITE
from sase_attn.ops.channel_squeeze import CHANNEL_SQUEEZE
from sase_attn.ops.spatial_excite import SPATIAL_EXCITE
from sase_attn.ops.spatial_squeeze import SPATIAL_SQUEEZE
from sase_attn.placed import build_placed

OP_SETS: dict[str, dict[str, type[nn.Module]]] = {
    "channel_squeeze": CHANNEL_SQUEEZE,
    "channel_excite": CHANNEL_EXCITE,
    "spatial_squeeze": SPATIAL_SQUEEZE,
    "spatial_excite": SPATIAL_EXCITE,
}
"""The classes of the operations by name, for each of the four sets; `register_op` adds yours."""

RELEASE_OPS: dict[str, tuple[str, ...]] = {name: tuple(ops)[:7] for name, ops in OP_SETS.items()}
"""The seven operations of each set that the authors' release has, in the order of its alpha: the published space."""


def list_ops(set_name: str | None = None) -> list[str]:
    """Names of the operations of a set in order, or of the four sets if `set_name` is None.

    Raises:
        UnknownNameError: no such set; the nearest names are given.
    """
    return list(OP_SETS if set_name is None else _op_set(set_name))


def get_op(set_name: str, name: str) -> type[nn.Module]:
    """The class of an operation. Raises `UnknownNameError` (a ValueError) with the nearest names."""
    op_set = _op_set(set_name)
    return op_set[known(f"{set_name} operation", name, op_set)]


def create_op(
    set_name: str,
    name: str,
    channels: int,
    *,
    size: int | tuple[int, int] | None = None,
    rd_ratio: float = 1 / 16,
    device: torch.device | None = None,
    dtype: torch.dtype | None = None,
) -> nn.Module:
    """Build one operation, for example `create_op("spatial_squeeze", "l2norm", channels=64, size=(14, 14))`.

    Shapes: channel_squeeze (B,C,H,W)→(B,C,1,1), channel_excite (B,C,1,1)→(B,C,1,1), spatial_squeeze
    (B,C,H,W)→(B,1,H,W), spatial_excite (B,1,H,W)→(B,1,H,W), with H, W ≥ 1, of float16, bfloat16, float32 or float64.
    Squeezes return float32 for half-precision inputs. An empty batch, B = 0, gives an empty result.

    Args:
        set_name: one of the four sets.
        name: an operation of that set, see `list_ops(set_name)`.
        channels: channels C of the map that the block sees.
        size: (H, W) at which per-position weights are stored (7×7 where None).
        rd_ratio: width of the hidden layer of an FC excitation relative to C.

    Raises:
        UnknownNameError: no such set or operation; the nearest names are given.
        ValueError: `channels`, `size` or `rd_ratio` is no number or not positive. Operations also raise it when they
            are called with an input of another shape or type.
    """
    op = get_op(set_name, name)
    return build_placed(op, channels, size=size, rd_ratio=rd_ratio, device=device, dtype=dtype)


def register_op(set_name: str, name: str, op: type[nn.Module], *, overwrite: bool = False) -> type[nn.Module]:
    """Add your operation to a set: from then on it can be created, put in a genotype, searched and printed.

    Args:
        set_name: the set it joins, which fixes its input and output shapes (see `create_op`).
        name: letters, digits and underscores.
        op: a module class with the signature `op(channels, *, size=None, rd_ratio=1/16)`. `device` and `dtype` are
            passed if the signature has them; otherwise the new module is moved. Derive from `sase_attn.ops.Op`, or from
            `Excite` so that a block with this operation can preserve a network's output.
        overwrite: replace an operation of the same name.

    Raises:
        UnknownNameError: no such set.
        ValueError: the name is taken or not an identifier.
        TypeError: `op` is not a class, or its signature lacks one of the arguments.
    """
    op_set = _op_set(set_name)
    if not name.isidentifier():
        raise ValueError(f"an operation's name must be letters, digits and underscores, got {name!r}")
    if name in op_set and not overwrite:
        raise ValueError(f"{set_name} already has an operation {name!r}; pass overwrite=True to replace it")
    if not (isinstance(op, type) and issubclass(op, nn.Module)):
        raise TypeError(f"expected a class derived from torch.nn.Module, got {op!r}")
    try:
        inspect.signature(op).bind(64, size=None, rd_ratio=1 / 16)
    except TypeError as error:
        wanted = "(channels, *, size=None, rd_ratio=1/16)"
        raise TypeError(f"{op.__name__} must accept {wanted}: {error}") from None
    op_set[name] = op
    return op


def _op_set(set_name: str) -> dict[str, type[nn.Module]]:
    return OP_SETS[known("operation set", set_name, OP_SETS)]
