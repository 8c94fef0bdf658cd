"""Divide the gain that an attention starts with out of its result, also where it starts as a constant."""

from math import isclose

from torch import nn

from sase_attn.attention import Attention
from sase_attn.attentions.starting_gain import can_scale, gain_of, set_gain
from sase_attn.block import SASEBlock
from sase_attn.insert.attached import Attached


def divide_out(holder: nn.Module, attn: nn.Module, gain: str | float) -> None:
    """Divide a gain out of an attention's result: in the attention if it has a `scale`, otherwise in its holder.

    Args:
        holder: the module that calls the attention: an `Attached`, or a block.
        attn: the attention.
        gain: see `sase_attn.attentions.set_gain`.

    Raises:
        ValueError: no such gain. TypeError: neither of the two has a `scale`.
    """
    if isinstance(holder, Attached) and not can_scale(attn):
        holder.scale = 1 / gain_of(attn, gain)
    else:
        set_gain(attn, gain)


def start_preserving(holder: nn.Module, attn: nn.Module, gain: str | float | None = None) -> float:
    """Make an attention start as a constant gain, divide the gain out of its result, and return the gain.

    Args:
        holder, attn: see `divide_out`.
        gain: the gain that was asked for, if any.

    Raises:
        TypeError: the attention has no `zero_gates()`, or raises there the reason why it cannot start so; or see
            `divide_out`.
        ValueError: the gain is 0, which no factor can undo; or another gain was asked for.
    """
    name = type(attn).__name__
    zero_gates = getattr(attn, "zero_gates", None)
    if zero_gates is None:
        raise TypeError(f"{name} cannot start as a constant: it has no zero_gates() method")
    scale = scale_of(holder, attn)
    if gain is None and scale != 1:
        gain = 1 / scale
    asked = None if gain is None else gain_of(attn, gain)
    start = float(zero_gates())
    if isinstance(holder, Attached):
        holder.constant = True
    if start == 0:
        raise ValueError(f"{name} starts as zero, which no factor behind it can make up for")
    if asked is not None and not isclose(asked, start, rel_tol=1e-6):
        raise ValueError(
            f"gain: wanted {start:g} divided out of {name}, which preserves the output, got {gain!r}; leave gain out"
        )
    if scale == 1:
        divide_out(holder, attn, start)
    return start


def scale_of(holder: nn.Module, attn: nn.Module) -> float:
    """The factor that an attention's result is multiplied by, in the attention and in its holder together."""
    return (holder.scale if isinstance(holder, Attached) else 1.0) * own_scale(attn)


def own_scale(module: nn.Module) -> float:
    """The `scale` of an attention of this package; 1 for other modules, where the name means something else."""
    return float(module.scale) if isinstance(module, Attention | SASEBlock) else 1.0
