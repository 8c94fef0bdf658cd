"""The kernels for autograd: statistics and gates with backward passes of their own, differentiable once.

Call these where `router.takes(x)` says so. Gates and statistics are float32 (float64 for float64 maps).
"""

from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any, cast

import torch
from torch import Tensor

from sase_attn.kernels import selection


def reduce(
    x: Tensor,
    over: int,
    plain: tuple[str, ...] = (),
    weight: Tensor | None = None,
    weighted: tuple[str, ...] = (),
) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
    """Statistics of a map (B, C, H, W) in one read.

    Args:
        over: 2, the positions, or 1, the channels.
        plain: names from `selection.STATISTICS`, of x.
        weight: (B, C, 1, 1), and `weighted`, names: of x·weight; over the channels only.

    Returns:
        Both sets by name, (B, C, 1, 1) or (B, 1, H, W), and x: uses of the map from here on go through this one, so
        that their gradient is added where that of the statistics is computed, not in a pass of its own.
    """
    bits = selection.bits(plain), selection.bits(weighted)
    weight = None if weight is None else weight.expand(len(x), x.shape[1], 1, 1).flatten(1)
    values, _, x = _Reduce.apply(x, weight, over, *bits)
    shape = (1, *x.shape[2:]) if over == 1 else (-1, 1, 1)
    maps = [value.unflatten(1, shape) for value in (values.unbind() if len(values) > 1 else [values.squeeze(0)])]
    names = [selection.names_of(which) for which in bits]
    split = len(names[0])
    return dict(zip(names[0], maps[:split], strict=True)), dict(zip(names[1], maps[split:], strict=True)), x


def gate(x: Tensor, channel: Tensor, position: Tensor, shortcut: Tensor | None = None, relu: bool = False) -> Tensor:
    """x·(channel + position) for gates (B, C, 1, 1) and (B, 1, H, W), plus a shortcut like x, through a ReLU."""
    batch, channels, height, width = x.shape
    if shortcut is not None and (shortcut.shape != x.shape or shortcut.dtype != x.dtype):
        wanted, got = (f"{tuple(value.shape)} {value.dtype}" for value in (x, shortcut))
        raise ValueError(f"the shortcut must be of the shape and type of the map, {wanted}, got {got}")
    channel = channel.expand(batch, channels, 1, 1).flatten(1)
    position = position.expand(batch, 1, height, width).flatten(1)
    return cast(Tensor, _Gate.apply(x, channel, position, shortcut, relu))


@cache
def _operators() -> ModuleType:
    """The operators; Triton is imported with them."""
    return import_module("sase_attn.kernels.operators")


class _Reduce(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(
        x: Tensor, weight: Tensor | None, over: int, plain: int, weighted: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        values, saved = _operators().reduce(x, weight, over, plain, weighted)
        return values, saved, x.view_as(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        x, weight, *ctx.call = inputs
        values, saved, _ = output
        ctx.mark_non_differentiable(saved)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, weight, values, saved)

    @staticmethod
    def backward(ctx: Any, grads: Tensor | None, _: None, carried: Tensor | None) -> tuple[Tensor | None, ...]:
        if grads is None:
            return carried, None, None, None, None
        x, weight, values, saved = ctx.saved_tensors
        with torch.no_grad():
            dx, dweight = _operators().reduce_backward(x, weight, values, saved, grads, carried, *ctx.call)
            found = [dx, None if weight is None else dweight.to(weight.dtype)]
        return *_final(found, x, weight, grads, carried), None, None, None


class _Gate(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, channel: Tensor, position: Tensor, shortcut: Tensor | None, relu: bool) -> Tensor:
        return cast(Tensor, _operators().gate(x, channel, position, shortcut, relu))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, channel, position, shortcut, relu = inputs
        ctx.shortcut = shortcut is not None
        ctx.save_for_backward(x, channel, position, output if relu else None)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        x, channel, position, y = ctx.saved_tensors
        masked = ctx.shortcut and y is not None
        with torch.no_grad():
            dx, dchannel, dposition, dshortcut = _operators().gate_backward(x, channel, position, y, g, masked)
            found = [dx, dchannel.to(channel.dtype), dposition.to(position.dtype), dshortcut if masked else None]
        dx, dchannel, dposition, dshortcut = _final(found, x, channel, position, g)
        return dx, dchannel, dposition, g if ctx.shortcut and not masked else dshortcut, None


def _final(grads: list[Tensor | None], *sources: Tensor | None) -> list[Tensor | None]:
    """Gradients; under `create_graph`, such as say so when they are differentiated as functions of their sources.

    (`once_differentiable` looks at incoming gradients only: a gradient of the map itself would be lost in silence.)
    """
    needed = [source for source in sources if source is not None and source.requires_grad]
    if not (torch.is_grad_enabled() and needed):
        return grads
    return [None if grad is None else _Final.apply(grad, *needed) for grad in grads]


class _Final(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(grad: Tensor, *sources: Tensor) -> Tensor:
        return grad.view_as(grad)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        raise RuntimeError(
            "gradients of sase_attn's kernels have no gradient of their own: call sase_attn.kernels.use('torch') before"
        )
