"""The kernels for autograd: a map that is read several times, whose gradient is written in one pass.

`operators` is a module with the functions of `operators.DEFINITIONS`: that one (Triton), or `chunked` (the CPU).
Gates and statistics are float32, float64 for float64 maps. Gradients of gradients take the definition.
"""

from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from sase_attn.kernels import backend, spec

SPACE, CHANNELS = [2, 3], [1]

Definition = Callable[[Tensor, list[str], list[int]], list[Tensor]]
"""Statistics, by names of `selection.STATISTICS`, of a map over axes, differentiable any number of times."""


class _Plan(NamedTuple):
    """What is read of a map: sets of statistics (bits, see `selection`) over positions; over channels; weighted."""

    operators: ModuleType
    definition: Definition
    space: int
    plain: int
    weighted: int


class SharedMap:
    """A map (B, C, H, W) read up to three times: for statistics over positions, those over channels, and the gates.

    Gradients travel as what each read has to say of dL/dx (a row per channel or position, and the gradient of the
    gated map as it came), and only where the map came from are they put together.

    Args:
        x: the map, one that `router.takes`.
        operators: what computes, a module.
        definition: of the statistics.
        space: names of statistics over the positions; `channels`, over the channels; `weighted`, over those of
            x·weight.
    """

    def __init__(
        self,
        x: Tensor,
        operators: ModuleType,
        definition: Definition,
        space: tuple[str, ...] = (),
        channels: tuple[str, ...] = (),
        weighted: tuple[str, ...] = (),
    ) -> None:
        self._x = x
        self._plan = _Plan(operators, definition, *(spec.bits(names) for names in (space, channels, weighted)))
        values, self._passed, self._packed, self._weight, *self._gates = _Read.apply(x, self._plan)
        self.space = named(values, self._plan.space, (-1, 1, 1))

    def over_channels(self, weight: Tensor | None = None) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Both sets of statistics over the channels by name, (B, 1, H, W), for a weight (B, C, 1, 1)."""
        x, plan = self._x, self._plan
        if weight is not None:
            weight = weight.expand(len(x), x.shape[1], 1, 1).flatten(1)
        values = _Channels.apply(x, self._packed, self._weight, weight, plan)
        count, shape = plan.plain.bit_count(), (1, *x.shape[2:])
        return named(values[:count], plan.plain, shape), named(values[count:], plan.weighted, shape)

    def gate(
        self,
        channel: Tensor,
        position: Tensor,
        shortcut: Tensor | None = None,
        relu: bool = False,
        overwrite: bool = False,
    ) -> Tensor:
        """x·(channel + position) for gates (B, C, 1, 1) and (B, 1, H, W), plus a shortcut like x, through a ReLU.

        Once a map, as its last read. `overwrite`: x may be lost where no gradient is recorded.
        """
        x = self._x
        channel = channel.expand(len(x), x.shape[1], 1, 1).flatten(1)
        position = position.expand(len(x), 1, *x.shape[2:]).flatten(1)
        operators = self._plan.operators
        if overwrite and hasattr(operators, "gate_in_place") and not torch.is_grad_enabled():
            return cast(Tensor, operators.gate_in_place(x, channel, position, shortcut, relu))
        inputs = (x, self._passed, *self._gates, channel, position, shortcut, relu, operators)
        return cast(Tensor, _Gate.apply(*inputs))


class _Read(torch.autograd.Function):
    """Statistics over the positions; the map; and what the other reads send their gradients through, by its shape."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, plan: _Plan) -> tuple[Tensor, ...]:
        batch, channels, positions = len(x), x.shape[1], x.shape[2] * x.shape[3]
        acc = spec.accumulator(x.dtype)
        rows = sum(2 * which.bit_count() + spec.saved_rows(which) for which in (plan.plain, plan.weighted))
        sizes = (rows, batch, positions), (batch, channels), (batch, channels), (batch, positions)
        values = saved = x.new_empty((0, batch, channels), dtype=acc)
        if plan.space:
            values, saved = plan.operators.reduce(x, None, 2, plan.space, 0)
        ctx.plan = plan
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, values, saved)
        return values, x.view_as(x), *(x.new_empty(size, dtype=acc) for size in sizes)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, None]:
        x, values, saved = ctx.saved_tensors
        plan = ctx.plan
        dvalues, g, packed, weight, channel, position = grads
        if not plan.space:
            dvalues = None
        if dvalues is None and g is None and packed is None:
            return None, None
        if takes_definition(*grads):
            return _gradient(x, plan, *grads), None
        space = (None, None, None) if dvalues is None else (dvalues, values, saved)
        over = (None, None, None) if packed is None else unpacked(packed, plan.plain, plan.weighted)
        return plan.operators.map_backward(x, g, channel, position, *space, weight, *over, *plan[2:]), None


class _Channels(torch.autograd.Function):
    """Statistics over the channels, rows (statistics, B, H·W), those of x·weight behind."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, to_packed: Tensor, to_weight: Tensor, weight: Tensor | None, plan: _Plan
    ) -> Tensor:
        values, saved = plan.operators.reduce(x, weight, 1, plan.plain, plan.weighted)
        ctx.plan = plan
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, weight, values, saved)
        return cast(Tensor, values)

    @staticmethod
    def backward(ctx: Any, grads: Tensor | None) -> tuple[Tensor | None, ...]:
        if grads is None:
            return None, None, None, None, None
        x, weight, values, saved = ctx.saved_tensors
        plan: _Plan = ctx.plan
        packed, dweight = torch.cat([grads, values, saved]), None
        if weight is not None and plan.weighted and ctx.needs_input_grad[3]:
            count = plan.plain.bit_count()
            if takes_definition(grads):
                names = spec.names_of(plan.weighted)
                (dweight,) = by_definition(
                    lambda weight: plan.definition(x * weight[:, :, None, None], names, CHANNELS),
                    [weight],
                    list(grads[count:]),
                )
            else:
                own = spec.saved_rows(plan.plain)
                parts = grads[count:], values[count:], saved[own:]
                dweight = plan.operators.weight_backward(x, weight, *parts, plan.weighted).to(weight.dtype)
        return None, packed, None if weight is None else weight.to(grads.dtype), dweight, None


class _Gate(torch.autograd.Function):
    """x·(channel + position) + shortcut through a ReLU; sends the gradient of y and the gates where x came from."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, passed: Tensor, to_channel: Tensor, to_position: Tensor, channel: Tensor,
        position: Tensor, shortcut: Tensor | None, relu: bool, operators: ModuleType,
    ) -> Tensor:  # fmt: skip
        y = operators.gate(x, channel, position, shortcut, relu)
        ctx.operators, ctx.shortcut = operators, shortcut is not None
        ctx.save_for_backward(x, channel, position, y if relu else None)
        return cast(Tensor, y)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        x, channel, position, y = ctx.saved_tensors
        acc = spec.accumulator(x.dtype)
        if takes_definition(g):
            g = g if y is None else torch.where(y <= 0, 0, g)
            product = g.to(acc) * x.to(acc)
            dchannel, dposition = product.sum((2, 3)), product.sum(1).reshape(len(x), -1)
        else:
            dchannel, dposition, masked = ctx.operators.sums(x, y, g)
            g = g if y is None else masked
        gates = channel.to(acc), position.to(acc), dchannel.to(channel.dtype), dposition.to(position.dtype)
        return None, g, *gates, g if ctx.shortcut else None, None, None


def takes_definition(*grads: Tensor | None) -> bool:
    """Whether what these give must be differentiable itself, or comes under vmap."""
    return torch.is_grad_enabled() or backend.transformed() or any(backend.is_batched(g) for g in grads)


def by_definition(read: Callable[..., list[Tensor]], leaves: list[Tensor], grads: list[Tensor]) -> list[Tensor | None]:
    """Gradients of leaves, None of constant ones, from those of what is read, in any shape with as many elements.

    `read` is given leaves of its own: what else it reads may follow from them, and has its gradient elsewhere.
    """
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        leaves = [leaf.view_as(leaf) for leaf in leaves]
        values = read(*leaves)
    like = [row.reshape(value.shape).to(value.dtype) for row, value in zip(grads, values, strict=True)]
    needed = [leaf for leaf in leaves if leaf.requires_grad]
    found = iter(torch.autograd.grad(values, needed, like, create_graph=create_graph) if needed else ())
    return [next(found) if leaf.requires_grad else None for leaf in leaves]


def named(values: Tensor, which: int, shape: tuple[int, ...]) -> dict[str, Tensor]:
    """Rows of values by the names of a set of statistics, their last axis in the shape."""
    names = spec.names_of(which)
    return {name: row.unflatten(1, shape) for name, row in zip(names, values.unbind(), strict=True)}


def over_channels(x: Tensor, definition: Definition, plain: int, weighted: int, weight: Tensor | None) -> list[Tensor]:
    """Both sets of statistics over the channels by the definition."""
    found = definition(x, spec.names_of(plain), CHANNELS)
    if weight is not None:
        found += definition(x * weight[:, :, None, None], spec.names_of(weighted), CHANNELS)
    return found


def unpacked(packed: Tensor, plain: int, weighted: int) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients, values and saved rows of both sets over the channels."""
    count = plain.bit_count() + weighted.bit_count()
    return packed[:count], packed[count : 2 * count], packed[2 * count :]


def _gradient(
    x: Tensor, plan: _Plan, dvalues: Tensor | None, g: Tensor | None, packed: Tensor | None, weight: Tensor | None,
    channel: Tensor | None, position: Tensor | None,
) -> Tensor:  # fmt: skip
    """What `map_backward` computes, by the definition, so that it can be differentiated."""

    dx = torch.zeros_like(x)
    found: list[Tensor | None] = []
    if dvalues is not None:
        names = spec.names_of(plan.space)
        found += by_definition(lambda x: plan.definition(x, names, SPACE), [x], list(dvalues))
    if packed is not None:
        sets = plan.definition, plan.plain, plan.weighted
        grads = list(unpacked(packed, plan.plain, plan.weighted)[0])
        found += by_definition(lambda x: over_channels(x, *sets, weight), [x], grads)
    for gradient in found:
        dx = dx if gradient is None else dx + gradient
    if g is not None and channel is not None and position is not None:
        gates = channel[:, :, None, None] + position.unflatten(1, (1, *x.shape[2:]))
        dx = dx + (g * gates).to(x.dtype)
    return dx
