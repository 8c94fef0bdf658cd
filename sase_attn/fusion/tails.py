"""The tail of a residual block as one unit: batch norm, attention, shortcut and ReLU.

It supports SASE blocks, and attention whose gate per channel follows from the means of the channels: timm's SE and ECA
modules, and classes that derive from them.
"""

from collections.abc import Callable
from typing import Any, cast

from timm.layers import EcaModule, EffectiveSEModule, SEModule
from torch import Tensor, nn

from sase_attn.attentions.eca import ECA
from sase_attn.attentions.se import SE
from sase_attn.block import SASEBlock
from sase_attn.insert.gain import own_scale
from sase_attn.kernels import batch_norm, dispatch, reader
from sase_attn.ops import functional


def is_known(attention: nn.Module | None) -> bool:
    """Whether `tail` supports this attention."""
    return type(attention) is SASEBlock or _gate_of(attention) is not None


def tail(
    attention: nn.Module,
    x: Tensor,
    shortcut: Tensor,
    relu: bool,
    norm: nn.Module | None = None,
    overwrite: bool = False,
) -> Tensor:
    """attention(norm(x)) + shortcut, through a ReLU if `relu`, for attention that `is_known`; see `SASEBlock.tail`."""
    if isinstance(attention, SASEBlock):
        return attention.tail(x, shortcut, relu=relu, norm=norm, overwrite=overwrite)
    if isinstance(attention, SE | ECA):
        x = functional.check_input(x, attention.channels)
    functional.check_shortcut(x, shortcut)
    names = ["mean", "maximum"] if getattr(attention, "add_maxpool", False) else ["mean"]
    operators = dispatch.operators_for(x)
    if norm is not None and not (operators is not None and batch_norm.is_foldable(norm, names)):
        x, overwrite = reader.applied(norm, x, overwrite)
        norm = None
    if operators is None:
        return reader.finished(cast(Tensor, attention(x)), shortcut, relu)
    read = reader.MapReader(x, operators, names, norm=norm, shortcut=shortcut, relu=relu, overwrite=overwrite)
    squeezed = read.statistics(names, reader.POSITIONS)
    squeeze = squeezed[0] if len(squeezed) == 1 else 0.5 * squeezed[0] + 0.5 * squeezed[1]
    gate = _gate_of(attention)
    assert gate is not None
    scaled = gate(attention, squeeze.to(x.dtype)) * own_scale(attention)
    return read.gate(scaled, x.new_zeros((1, 1, 1, 1)))


def _gate_of(attention: nn.Module | None) -> Callable[[Any, Tensor], Tensor] | None:
    """The function that computes the gate; None unless the attention has the formula of a class in `_GATES`."""
    for cls, gate in _GATES.items():
        if isinstance(attention, cls) and _formula(type(attention)) == _formula(cls):
            return gate
    return None


def _formula(cls: type[nn.Module]) -> tuple[object, object]:
    return cls.forward, getattr(cls, "attend", None)


def _se(module: Any, squeezed: Tensor) -> Tensor:
    hidden = module.act(module.bn(module.fc1(squeezed)))
    return cast(Tensor, module.gate(module.fc2(hidden)))


def _effective_se(module: Any, squeezed: Tensor) -> Tensor:
    return cast(Tensor, module.gate(module.fc(squeezed)))


def _eca(module: Any, squeezed: Tensor) -> Tensor:
    y = module.conv(squeezed.flatten(1).unsqueeze(1))
    if module.conv2 is not None:
        y = module.conv2(module.act(y))
    return cast(Tensor, module.gate(y).flatten(1)[:, :, None, None])


_GATES: dict[type[nn.Module], Callable[[Any, Tensor], Tensor]] = {
    SE: _se,
    ECA: _eca,
    SEModule: _se,
    EffectiveSEModule: _effective_se,
    EcaModule: _eca,
}
