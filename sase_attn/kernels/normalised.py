"""Batch norm, statistics, gates, a shortcut and a ReLU as one: the map between the norm and the gates is never stored.

x = u·sign·scale + shift with a row a channel each. Batch norm needs only the mean and deviation of every channel of
every sample of u, read with the statistics over the positions, and the gradients of scale and shift, which are sums
that the other reads of the map take with their own: no pass over the map is for the norm alone.
"""

from types import ModuleType
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from sase_attn.kernels import autograd, spec
from sase_attn.kernels.autograd import SPACE, Definition

_Three = tuple[Tensor | None, Tensor | None, Tensor | None]


class _Plan(NamedTuple):
    operators: ModuleType
    definition: Definition
    sign: Tensor | None
    space: int
    plain: int
    weighted: int


class NormalisedMap:
    """A map x that is u normalised: statistics over its positions and channels, and the gated map.

    Args:
        u: the map before the norm.
        operators, definition: see `functions.SharedMap` and `functions.Definition`.
        sign: 1 or -1 for each channel, None for 1: that of the norm's weight.
        space: names of statistics over the positions, of u·sign.
        channels, weighted: names of those over the channels, of x, and of x·weight.
    """

    def __init__(
        self,
        u: Tensor,
        operators: ModuleType,
        definition: Definition,
        sign: Tensor | None,
        space: tuple[str, ...],
        channels: tuple[str, ...],
        weighted: tuple[str, ...],
    ) -> None:
        self._u = u
        sets = (spec.bits(names) for names in (space, channels, weighted))
        self._plan = _Plan(operators, definition, sign, *sets)
        values, self._passed, *self._slots = _Read.apply(u, self._plan)
        self.space = autograd.named(values, self._plan.space, (-1,))
        """Statistics over the positions by name, (B, C), of u·sign."""

    def normalise(self, scale: Tensor, shift: Tensor) -> None:
        """Say what x is, (C,) each, before it is read."""
        self._affine = torch.stack([scale, shift])

    def over_channels(self, weight: Tensor | None = None) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """As `functions.SharedMap.over_channels`, of x."""
        u, plan = self._u, self._plan
        if weight is not None:
            weight = weight.expand(len(u), u.shape[1], 1, 1).flatten(1)
        values = _Channels.apply(u, *self._slots[:3], weight, self._affine, plan)
        count, shape = plan.plain.bit_count(), (1, *u.shape[2:])
        return autograd.named(values[:count], plan.plain, shape), autograd.named(values[count:], plan.weighted, shape)

    def gate(self, channel: Tensor, position: Tensor, shortcut: Tensor | None, relu: bool) -> Tensor:
        """As `functions.SharedMap.gate`, of x."""
        u = self._u
        channel = channel.expand(len(u), u.shape[1], 1, 1).flatten(1)
        position = position.expand(len(u), 1, *u.shape[2:]).flatten(1)
        gates = channel, position, shortcut, relu
        return cast(Tensor, _Gate.apply(u, self._passed, *self._slots[3:], *gates, self._affine, self._plan))


class _Read(torch.autograd.Function):
    """As in `functions`; the other reads send the scale and shift as well."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, plan: _Plan) -> tuple[Tensor, ...]:
        batch, channels, positions = len(u), u.shape[1], u.shape[2] * u.shape[3]
        acc = spec.accumulator(u.dtype)
        rows = sum(2 * which.bit_count() + spec.saved_rows(which) for which in (plan.plain, plan.weighted))
        of_channels = (rows, batch, positions), (batch, channels), (2, channels)
        of_gate = (batch, channels), (batch, positions), (2, channels)
        values = saved = u.new_empty((0, batch, channels), dtype=acc)
        if plan.space:
            values, saved = plan.operators.reduce(u, None, 2, plan.space, 0, plan.sign)
        ctx.plan = plan
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(u, values, saved)
        return values, u.view_as(u), *(u.new_empty(size, dtype=acc) for size in (*of_channels, *of_gate))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, None]:
        u, values, saved = ctx.saved_tensors
        plan: _Plan = ctx.plan
        dvalues, g, packed, weight, first, channel, position, second = grads
        if not plan.space:
            dvalues = None
        if dvalues is None and g is None and packed is None:
            return None, None
        affine = first if second is None else second
        if autograd.takes_definition(*grads):
            return _gradient(u, plan, dvalues, g, packed, weight, channel, position, affine), None
        space: _Three = (None, None, None) if dvalues is None else (dvalues, values, saved)
        over: _Three = (None, None, None) if packed is None else autograd.unpacked(packed, plan.plain, plan.weighted)
        sets = plan.space, plan.plain, plan.weighted
        du = plan.operators.map_backward(u, g, channel, position, *space, weight, *over, *sets, plan.sign, affine)
        return du, None


class _Channels(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, u: Tensor, to_packed: Tensor, to_weight: Tensor, to_affine: Tensor, weight: Tensor | None,
        affine: Tensor, plan: _Plan,
    ) -> Tensor:  # fmt: skip
        values, saved = plan.operators.reduce(u, weight, 1, plan.plain, plan.weighted, plan.sign, affine)
        ctx.plan = plan
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(u, weight, affine, values, saved)
        return cast(Tensor, values)

    @staticmethod
    def backward(ctx: Any, grads: Tensor | None) -> tuple[Tensor | None, ...]:
        if grads is None:
            return (None,) * 7
        u, weight, affine, values, saved = ctx.saved_tensors
        plan: _Plan = ctx.plan
        daffine: Tensor | None
        dweight: Tensor | None = None
        if autograd.takes_definition(grads):
            leaves = [affine] if weight is None else [affine, weight]
            daffine, *rest = autograd.by_definition(
                lambda affine, weight=None: _over_channels(_normalised(u, plan, affine), plan, weight),
                leaves,
                list(grads),
            )
            dweight = rest[0] if rest else None
        else:
            daffine, dweight = plan.operators.channels_backward(
                u, weight, grads, values, saved, plan.plain, plan.weighted, plan.sign, affine
            )
            dweight = None if weight is None else dweight
        return None, torch.cat([grads, values, saved]), weight, affine, dweight, daffine, None


class _Gate(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, u: Tensor, passed: Tensor, to_channel: Tensor, to_position: Tensor, to_affine: Tensor,
        channel: Tensor, position: Tensor, shortcut: Tensor | None, relu: bool, affine: Tensor, plan: _Plan,
    ) -> Tensor:  # fmt: skip
        y = plan.operators.gate(u, channel, position, shortcut, relu, plan.sign, affine)
        ctx.plan, ctx.shortcut = plan, shortcut is not None
        ctx.save_for_backward(u, channel, position, affine, y if relu else None)
        return cast(Tensor, y)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        u, channel, position, affine, y = ctx.saved_tensors
        plan: _Plan = ctx.plan
        if autograd.takes_definition(g):
            g = g if y is None else torch.where(y <= 0, 0, g)
            dchannel, dposition, daffine = autograd.by_definition(
                lambda channel, position, affine: [_normalised(u, plan, affine) * _gates(u, channel, position)],
                [channel, position, affine],
                [g],
            )
        else:
            sums = plan.operators.normalised_sums(u, y, g, channel, position, plan.sign, affine)
            dchannel, dposition, masked, daffine = sums
            g = g if y is None else masked
        sent = channel, position, affine
        return None, g, *sent, dchannel, dposition, g if ctx.shortcut else None, None, daffine, None


def _normalised(u: Tensor, plan: _Plan, affine: Tensor) -> Tensor:
    """x, in the type that is computed in, differentiable."""
    scale, shift = affine[:, :, None, None]
    signed = u if plan.sign is None else u * plan.sign[:, None, None]
    return signed * scale + shift


def _gates(u: Tensor, channel: Tensor, position: Tensor) -> Tensor:
    return channel[:, :, None, None] + position.unflatten(1, (1, *u.shape[2:]))


def _over_channels(x: Tensor, plan: _Plan, weight: Tensor | None) -> list[Tensor]:
    return autograd.over_channels(x, plan.definition, plan.plain, plan.weighted, weight)


def _gradient(
    u: Tensor, plan: _Plan, dvalues: Tensor | None, g: Tensor | None, packed: Tensor | None, weight: Tensor | None,
    channel: Tensor | None, position: Tensor | None, affine: Tensor | None,
) -> Tensor:  # fmt: skip
    """The gradient of u by the definition, so that it can be differentiated."""
    grads: list[Tensor] = [] if dvalues is None else list(dvalues)
    if packed is not None:
        grads += list(autograd.unpacked(packed, plan.plain, plan.weighted)[0])
    if g is not None:
        grads.append(g)

    def read(u: Tensor) -> list[Tensor]:
        found: list[Tensor] = []
        if dvalues is not None:
            signed = u if plan.sign is None else u * plan.sign[:, None, None]
            found += plan.definition(signed, spec.names_of(plan.space), SPACE)
        x = u if affine is None else _normalised(u, plan, affine)
        if packed is not None:
            found += _over_channels(x, plan, weight)
        if g is not None and channel is not None and position is not None:
            found.append(x * _gates(u, channel, position))
        return found

    du = autograd.by_definition(read, [u], grads)[0]
    assert du is not None
    return du
