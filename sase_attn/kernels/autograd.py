"""The kernels as autograd functions: a map is read up to three times, and its gradient is written once.

    forward                                     backward
    x ─┬─ Read ──► statistics over H, W         x ◄─ Read ◄── their gradients
       ├─ ReadChannels ──► statistics over C    │      ▲ ▲
       └─ Gate ──► y                            │      │ └── ReadChannels: a row for each position
                                                dx     └──── Gate: dL/dy, and the gates
                                                (one pass)

In the backward pass, a later read does not write its part of dL/dx, which would have the size of the map. It sends the
values from which that part follows, rows per channel or per position, to the first read, as the gradients of
uninitialised tensors ("slots") that the first read has returned. There all parts become dL/dx in one pass. The stored
map may be u, the input of a batch norm, where x = u·sign·scale + shift is computed on the fly but never stored. The
gradients of scale and shift are then sums that the later reads compute together with their own.

Gates and statistics are float32, or float64 for float64 maps. Second derivatives are computed by the definition.
"""

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from sase_attn.kernels import dispatch, spec
from sase_attn.statistics import STATISTICS

_Triple = tuple[Tensor | None, Tensor | None, Tensor | None]


class Plan(NamedTuple):
    """Which statistics of a map are read: over positions, over channels, and over channels of x·weight.

    Sets of statistics are bits, see `spec`. `operators` is the module that computes them, `triton.operators` or
    `cpu.operators`. `sign` is that of each channel's weight in the norm before the map, 1 or -1; None if all are 1.
    """

    operators: ModuleType
    positions: int
    channels: int
    weighted: int
    sign: Tensor | None


class Slots(NamedTuple):
    """Uninitialised tensors whose gradients carry what later reads contribute to dL/dx back to the first read."""

    y: Tensor
    rows: Tensor
    weight: Tensor
    affine_of_rows: Tensor
    channel: Tensor
    position: Tensor
    affine_of_gate: Tensor


class Read(torch.autograd.Function):
    """The first read: statistics of u·sign over the positions as rows (statistics, B, C), and the slots."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, plan: Plan) -> tuple[Tensor, ...]:
        batch, channels, positions = len(u), u.shape[1], u.shape[2] * u.shape[3]
        acc = spec.accumulator(u.dtype)
        rows = 2 * (plan.channels.bit_count() + plan.weighted.bit_count())
        rows += spec.saved_rows(plan.channels) + spec.saved_rows(plan.weighted)
        values = saved = u.new_empty((0, batch, channels), dtype=acc)
        if plan.positions:
            values, saved = plan.operators.reduce(u, None, 2, plan.positions, 0, plan.sign)
        ctx.plan = plan
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(u, values, saved)
        of_channels, of_positions, affine = (batch, channels), (batch, positions), (2, channels)
        sizes = ((rows, *of_positions), of_channels, affine, of_channels, of_positions, affine)
        return values, u.view_as(u), *[u.new_empty(size, dtype=acc) for size in sizes]

    @staticmethod
    def backward(ctx: Any, dvalues: Tensor | None, *grads: Tensor | None) -> tuple[Tensor | None, None]:
        u, values, saved = ctx.saved_tensors
        plan: Plan = ctx.plan
        g, rows, weight, first, channel, position, second = grads
        if not plan.positions:
            dvalues = None
        if dvalues is None and g is None and rows is None:
            return None, None
        affine = first if second is None else second
        if takes_definition(dvalues, *grads):
            return _map_gradient(u, plan, dvalues, g, rows, weight, channel, position, affine), None
        of_positions: _Triple = (None, None, None) if dvalues is None else (dvalues, values, saved)
        of_channels: _Triple = (None, None, None) if rows is None else _unpacked(rows, plan)
        sets = plan.positions, plan.channels, plan.weighted
        du = plan.operators.map_backward(
            u, g, channel, position, *of_positions, weight, *of_channels, *sets, plan.sign, affine
        )
        return du, None


class ReadChannels(torch.autograd.Function):
    """Statistics over the channels as rows (statistics, B, H·W), first those of x, then those of x·weight.

    `affine` holds the scale and shift of a batch norm before the map, (2, C), or is None.
    """

    @staticmethod
    def forward(
        ctx: Any, u: Tensor, to_rows: Tensor, to_weight: Tensor, to_affine: Tensor, weight: Tensor | None,
        affine: Tensor | None, plan: Plan,
    ) -> Tensor:  # fmt: skip
        values, saved = plan.operators.reduce(u, weight, 1, plan.channels, plan.weighted, plan.sign, affine)
        ctx.plan = plan
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(u, weight, affine, values, saved)
        return cast(Tensor, values)

    @staticmethod
    def backward(ctx: Any, grads: Tensor | None) -> tuple[Tensor | None, ...]:
        if grads is None:
            return (None,) * 7
        u, weight, affine, values, saved = ctx.saved_tensors
        plan: Plan = ctx.plan
        dweight: Tensor | None = None
        daffine: Tensor | None = None
        if takes_definition(grads):
            dweight, daffine = by_definition(
                lambda weight, affine: _over_channels(normalised(u, plan, affine), plan, weight),
                [weight, affine],
                list(grads),
            )
        elif affine is not None:
            daffine, dweight = plan.operators.channels_backward(
                u, weight, grads, values, saved, plan.channels, plan.weighted, plan.sign, affine
            )
        elif weight is not None and plan.weighted and ctx.needs_input_grad[4]:
            count, own = plan.channels.bit_count(), spec.saved_rows(plan.channels)
            rows = grads[count:], values[count:], saved[own:]
            dweight = plan.operators.weight_backward(u, weight, *rows, plan.weighted).to(weight.dtype)
        sent = None if weight is None else weight.to(grads.dtype)
        return None, torch.cat([grads, values, saved]), sent, affine, None if weight is None else dweight, daffine, None


class Gate(torch.autograd.Function):
    """ReLU(x·(channel + position) + shortcut), for gates (B, C) and (B, H·W); the ReLU only if `relu`."""

    @staticmethod
    def forward(
        ctx: Any, u: Tensor, to_y: Tensor, to_channel: Tensor, to_position: Tensor, to_affine: Tensor,
        channel: Tensor, position: Tensor, shortcut: Tensor | None, relu: bool, affine: Tensor | None, plan: Plan,
    ) -> Tensor:  # fmt: skip
        y = plan.operators.gate(u, channel, position, shortcut, relu, plan.sign, affine)
        ctx.plan, ctx.has_shortcut = plan, shortcut is not None
        ctx.save_for_backward(u, channel, position, affine, y if relu else None)
        return cast(Tensor, y)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        u, channel, position, affine, y = ctx.saved_tensors
        plan: Plan = ctx.plan
        daffine: Tensor | None = None
        if takes_definition(g):
            g = g if y is None else torch.where(y <= 0, 0, g)
            dchannel, dposition, daffine = by_definition(
                lambda channel, position, affine: [normalised(u, plan, affine) * _gates(u, channel, position)],
                [channel, position, affine],
                [g],
            )
        else:
            if affine is None:
                dchannel, dposition, masked = plan.operators.sums(u, y, g)
            else:
                dchannel, dposition, masked, daffine = plan.operators.normalised_sums(
                    u, y, g, channel, position, plan.sign, affine
                )
            g = g if y is None else masked
            dchannel, dposition = dchannel.to(channel.dtype), dposition.to(position.dtype)
        acc = spec.accumulator(u.dtype)
        sent = channel.to(acc), position.to(acc), affine
        return None, g, *sent, dchannel, dposition, g if ctx.has_shortcut else None, None, daffine, None


def takes_definition(*grads: Tensor | None) -> bool:
    """Whether the definition must compute what follows from these gradients: it is differentiated again, or vmapped."""
    return torch.is_grad_enabled() or dispatch.under_transform() or any(dispatch.is_batched(g) for g in grads)


def by_definition(
    read: Callable[..., list[Tensor]], leaves: Sequence[Tensor | None], grads: list[Tensor]
) -> list[Tensor | None]:
    """Gradients of `leaves` from the gradients of what `read(*leaves)` returns; None for leaves that require none.

    Each gradient may have any shape with the right number of elements. `read` is called with views of the leaves, so
    that no gradient flows through other tensors it uses, which may depend on the leaves and get theirs elsewhere.
    """
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        leaves = [None if leaf is None else leaf.view_as(leaf) for leaf in leaves]
        values = read(*leaves)
    needed = [leaf for leaf in leaves if leaf is not None and leaf.requires_grad]
    if not needed:
        return [None] * len(leaves)
    like = [row.reshape(value.shape).to(value.dtype) for row, value in zip(grads, values, strict=True)]
    found = iter(torch.autograd.grad(values, needed, like, create_graph=create_graph, allow_unused=True))
    return [next(found) if leaf is not None and leaf.requires_grad else None for leaf in leaves]


def normalised(u: Tensor, plan: Plan, affine: Tensor | None) -> Tensor:
    """x, with its graph: u itself, or u·sign·scale + shift in the type of the computation."""
    if affine is None:
        return u
    scale, shift = affine[:, :, None, None]
    return _signed(u, plan) * scale + shift


def _signed(u: Tensor, plan: Plan) -> Tensor:
    return u if plan.sign is None else u * plan.sign[:, None, None]


def _gates(u: Tensor, channel: Tensor, position: Tensor) -> Tensor:
    return channel[:, :, None, None] + position.unflatten(1, (1, *u.shape[2:]))


def _over_positions(u: Tensor, plan: Plan) -> list[Tensor]:
    return [STATISTICS[name].definition(_signed(u, plan), [2, 3]) for name in spec.names_of(plan.positions)]


def _over_channels(x: Tensor, plan: Plan, weight: Tensor | None) -> list[Tensor]:
    found = [STATISTICS[name].definition(x, [1]) for name in spec.names_of(plan.channels)]
    if weight is not None and plan.weighted:
        product = x * weight[:, :, None, None]
        found += [STATISTICS[name].definition(product, [1]) for name in spec.names_of(plan.weighted)]
    return found


def _unpacked(rows: Tensor, plan: Plan) -> tuple[Tensor, Tensor, Tensor]:
    """Split rows into the gradients, values and saved rows of both sets of statistics over the channels."""
    count = plan.channels.bit_count() + plan.weighted.bit_count()
    return rows[:count], rows[count : 2 * count], rows[2 * count :]


def _map_gradient(
    u: Tensor, plan: Plan, dvalues: Tensor | None, g: Tensor | None, rows: Tensor | None, weight: Tensor | None,
    channel: Tensor | None, position: Tensor | None, affine: Tensor | None,
) -> Tensor:  # fmt: skip
    """The result of `map_backward`, computed by the definition, so that it can be differentiated again."""
    grads: list[Tensor] = [] if dvalues is None else list(dvalues)
    if rows is not None:
        grads += list(_unpacked(rows, plan)[0])
    if g is not None:
        grads.append(g)

    def read(u: Tensor) -> list[Tensor]:
        found = [] if dvalues is None else _over_positions(u, plan)
        x = normalised(u, plan, affine)
        if rows is not None:
            found += _over_channels(x, plan, weight)
        if g is not None and channel is not None and position is not None:
            found.append(x * _gates(u, channel, position))
        return found

    (du,) = by_definition(read, [u], grads)
    assert du is not None
    return du
