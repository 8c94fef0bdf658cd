"""`MapReader`: stands for a map in a formula, and reads the map as few times as the statistics in it allow.

    x = MapReader(x, dispatch.operators_for(x), positions=["mean"], channels=["mean"], weighted=["l4"])
    z = statistics_of(x, ["mean"], [2, 3])          # first read of the map
    gated = x * gate                                # a `Product`; nothing is computed
    statistics_of(gated, ["l4"], [1])               # second read, which also computes the next line's statistics
    statistics_of(x, ["mean"], [1])
    y = reader.gated(x, channel, position)          # third read

The functions `statistics_of`, `gated` and `whole` accept a tensor or a reader, so that a formula is written once for
both. They are leaves for `torch.fx`, so call them as `reader.gated(...)`.
"""

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from sase_attn import statistics
from sase_attn.kernels import batch_norm, dispatch, spec
from sase_attn.kernels.autograd import Gate, Plan, Read, ReadChannels, Slots
from sase_attn.statistics import STATISTICS

POSITIONS, CHANNELS = [2, 3], [1]
Forward = TypeVar("Forward", bound=Callable[..., Any])


class MapReader:
    """Computes statistics of a map (B, C, H, W) and the gated map in three reads by kernels, or by the definition.

    Args:
        x: the map, or the input of `norm` if that is given.
        operators: the module that computes, from `dispatch.operators_for(x)`; None for the definition.
        positions: names of statistics over [2, 3], see `statistics.STATISTICS`.
        channels: names of statistics over [1].
        weighted: names of statistics over [1] of the map times a weight.
        norm: a batch norm before the map that `batch_norm.is_foldable`; its output is never stored. It needs
            `operators`.
        shortcut: a map of the shape and type of x that is added to the gated map.
        relu: whether a ReLU follows.
        overwrite: the gated map may be written to the memory of x, where no gradient is recorded.
    """

    def __init__(
        self,
        x: Tensor,
        operators: ModuleType | None,
        positions: Sequence[str] = (),
        channels: Sequence[str] = (),
        weighted: Sequence[str] = (),
        *,
        norm: nn.BatchNorm2d | None = None,
        shortcut: Tensor | None = None,
        relu: bool = False,
        overwrite: bool = False,
    ) -> None:
        self._x, self._shortcut, self._relu, self._overwrite = x, shortcut, relu, overwrite
        self._weight: Tensor | None = None
        self._affine: Tensor | None = None
        self._of_channels: tuple[dict[str, Tensor], dict[str, Tensor]] | None = None
        self._plan: Plan | None = None
        self._defined: dict[tuple[str, tuple[int, ...]], Tensor] = {}
        self._known: tuple[dict[str, Tensor], ...] = {}, {}, {}  # of positions, of channels, weighted
        if operators is None:
            return
        sign, by_batch = None, 0
        if norm is not None:
            sign = batch_norm.sign_of(norm.weight.to(spec.accumulator(x.dtype)))
            by_batch = spec.bits(("mean", "biased_std")) if batch_norm.uses_batch(norm) else 0
        sets = spec.bits(tuple(positions)) | by_batch, spec.bits(tuple(channels)), spec.bits(tuple(weighted))
        self._plan = Plan(operators, *sets, sign)
        values, *slots = Read.apply(x, self._plan)
        self._slots = Slots(*slots)
        self._of_positions = _named(values, self._plan.positions, (-1, 1, 1))
        if norm is not None:
            self._fold(norm)

    def statistics(self, names: Sequence[str], dims: list[int]) -> list[Tensor]:
        """Statistics over [2, 3], (B, C, 1, 1), or [1], (B, 1, H, W), by name, in the order asked for."""
        plan = self._plan
        asked = spec.bits(tuple(names))
        if plan is not None and dims == POSITIONS and not asked & ~plan.positions:
            return _finished(names, self._of_positions, self._x.shape[2] * self._x.shape[3], self._known[0])
        if plan is not None and dims == CHANNELS and not asked & ~plan.channels:
            return _finished(names, self._read_channels(plan)[0], self._x.shape[1], self._known[1])
        return _by_definition(self.tensor(), names, dims, self._defined)

    def __mul__(self, weight: Tensor) -> "Product":
        """The map times a weight (B, C, 1, 1); to be called before statistics over the channels are asked for.

        Statistics of the first product are read together with those of the map; those of others use the definition.
        """
        self._weight = weight if self._weight is None else self._weight
        return Product(self, weight)

    def weighted_statistics(self, weight: Tensor, names: Sequence[str], dims: list[int]) -> list[Tensor] | None:
        """Statistics of the map times a weight; None if they are not read together with those of the map."""
        plan = self._plan
        if plan is None or weight is not self._weight or dims != CHANNELS or spec.bits(tuple(names)) & ~plan.weighted:
            return None
        return _finished(names, self._read_channels(plan)[1], self._x.shape[1], self._known[2])

    def gate(self, channel: Tensor, position: Tensor) -> Tensor:
        """x·(channel + position) for (B, C, 1, 1) and (B, 1, H, W), plus the shortcut, through the ReLU.

        It is to be called once, after all statistics.
        """
        x, plan, shortcut, relu = self._x, self._plan, self._shortcut, self._relu
        if plan is None:
            return finished(gated(x, channel, position), shortcut, relu)
        channel = channel.expand(len(x), x.shape[1], 1, 1).flatten(1)
        position = position.expand(len(x), 1, *x.shape[2:]).flatten(1)
        in_place = getattr(plan.operators, "gate_in_place", None)
        if self._overwrite and in_place is not None and self._affine is None and not torch.is_grad_enabled():
            return cast(Tensor, in_place(x, channel, position, shortcut, relu))
        slots = self._slots.y, self._slots.channel, self._slots.position, self._slots.affine_of_gate
        return cast(Tensor, Gate.apply(x, *slots, channel, position, shortcut, relu, self._affine, plan))

    def tensor(self) -> Tensor:
        """The map itself, for a use that needs more than its statistics. Raises RuntimeError with a folded norm."""
        if self._affine is not None:
            raise RuntimeError("the map behind the norm is not in memory: apply the norm before the map is read")
        return self._x

    def _fold(self, norm: nn.BatchNorm2d) -> None:
        """Make norm(x) the map that is read from now on."""
        assert self._plan is not None
        x, of = self._x, self._of_positions
        of_samples = {name: of[name][:, :, 0, 0] for name in of}
        acc = spec.accumulator(x.dtype)
        n = x.shape[2] * x.shape[3]
        scale, shift = batch_norm.scale_and_shift(norm, self._plan.sign, of_samples, n, acc)
        self._affine = torch.stack([scale, shift])
        rows = scale[:, None, None], shift[:, None, None]
        self._of_positions = {
            name: rescale(value, *rows)
            for name, value in of.items()
            if (rescale := STATISTICS[name].rescale) is not None
        }

    def _read_channels(self, plan: Plan) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Both sets of statistics over the channels; the first call reads them."""
        if self._of_channels is None:
            x, weight = self._x, self._weight
            if plan.weighted and weight is None:
                raise RuntimeError("multiply the map by its weight before statistics over the channels are asked for")
            weight = None if weight is None or not plan.weighted else weight
            if weight is not None:
                weight = weight.expand(len(x), x.shape[1], 1, 1).flatten(1)
            slots = self._slots.rows, self._slots.weight, self._slots.affine_of_rows
            values = ReadChannels.apply(x, *slots, weight, self._affine, plan)
            count, shape = plan.channels.bit_count(), (1, *x.shape[2:])
            self._of_channels = (
                _named(values[:count], plan.channels, shape),
                _named(values[count:], plan.weighted, shape),
            )
        return self._of_channels


class Product:
    """A map times a weight (B, C, 1, 1), of which statistics are known without the product in memory, if possible."""

    def __init__(self, reader: MapReader, weight: Tensor) -> None:
        self._reader, self._weight = reader, weight
        self._tensor: Tensor | None = None
        self._defined: dict[tuple[str, tuple[int, ...]], Tensor] = {}

    def statistics(self, names: Sequence[str], dims: list[int]) -> list[Tensor]:
        """Statistics of the product over [2, 3], (B, C, 1, 1), or [1], (B, 1, H, W), in the order asked for."""
        found = self._reader.weighted_statistics(self._weight, names, dims)
        return _by_definition(self.tensor(), names, dims, self._defined) if found is None else found

    def tensor(self) -> Tensor:
        """The product; the first call computes it."""
        if self._tensor is None:
            self._tensor = self._reader.tensor() * self._weight
        return self._tensor


@torch.fx.wrap
def statistics_of(x: Tensor, names: list[str], dims: list[int]) -> list[Tensor]:
    """Statistics by their names in `statistics.STATISTICS`, in the order asked for; in one read if kernels are used.

    Args:
        x: a map (B, C, H, W), a `MapReader` or its `Product`.
        names: at least one name.
        dims: [2, 3], the positions, for results (B, C, 1, 1); or [1], the channels, for results (B, 1, H, W).
    """
    if not torch.jit.is_scripting():
        if isinstance(x, MapReader | Product):
            return x.statistics(names, dims)
        # For the mean alone the definition is as fast, and its gradient needs no memory.
        if names != ["mean"] and dims in (POSITIONS, CHANNELS):
            operators = dispatch.operators_for(x)
            if operators is not None:
                sets = ((), names) if dims == CHANNELS else (names, ())
                return MapReader(x, operators, *sets).statistics(names, dims)
    return statistics.compute(x, names, dims)


@torch.fx.wrap
def gated(x: Tensor, channel: Tensor, position: Tensor) -> Tensor:
    """x·(channel + position) in x's type, for a map or a `MapReader`, and gates (B, C, 1, 1) and (B, 1, H, W)."""
    if not torch.jit.is_scripting():  # noqa: SIM102  TorchScript compiles the other operand of an `and`
        if isinstance(x, MapReader):
            return x.gate(channel, position)
    return (x * (channel + position)).to(x.dtype)


@torch.fx.wrap
def whole(x: Tensor) -> Tensor:
    """The tensor that a `MapReader` or its `Product` stands for; a tensor itself."""
    if not torch.jit.is_scripting():  # noqa: SIM102  TorchScript compiles the other operand of an `and`
        if isinstance(x, MapReader | Product):
            return x.tensor()
    return x


def takes_readers(forward: Forward) -> Forward:
    """Mark the `forward` of a squeeze that accepts a reader: it uses its map only by `statistics_of` and `whole`."""
    forward.takes_readers = True  # type: ignore[attr-defined]
    return forward


def asked_of(squeeze: nn.Module, dims: list[int]) -> list[str] | None:
    """The statistics over these axes from which a squeeze follows; an empty list if it uses the whole map.

    None if it does not accept a reader instead of the map: it is not marked so, has hooks, or is compiled on its own.
    """
    hooks = squeeze._forward_hooks, squeeze._forward_pre_hooks, squeeze._backward_hooks, squeeze._backward_pre_hooks
    if any(hooks) or squeeze._compiled_call_impl is not None or not hasattr(type(squeeze).forward, "takes_readers"):
        return None
    return cast(list[str], squeeze.names) if getattr(squeeze, "dims", None) == dims else []


def read_together(
    x: Tensor,
    squeeze: nn.Module,
    of_product: nn.Module,
    of_map: nn.Module,
    *,
    norm: nn.Module | None = None,
    shortcut: Tensor | None = None,
    relu: bool = False,
    overwrite: bool = False,
) -> Tensor:
    """A `MapReader` for the statistics of three squeezes, typed as the tensor that it stands for.

    It returns the map itself if kernels do not accept the map, or a squeeze does not accept a reader.

    Args:
        x: the map, or the input of `norm` if that is given.
        squeeze: the squeeze over the positions of the map.
        of_product: the squeeze over the channels of the map times a weight.
        of_map: the squeeze over the channels of the map.
        norm: the layer before the map. It is applied here, unless it is a batch norm and all three squeezes follow from
            statistics of x.
        shortcut, relu, overwrite: see `MapReader`. If the map itself is returned, the caller applies the former two by
            `finished`.
    """
    asked = asked_of(squeeze, POSITIONS), asked_of(of_map, CHANNELS), asked_of(of_product, CHANNELS)
    operators = None if None in asked else dispatch.operators_for(x)
    sets = cast(tuple[list[str], list[str], list[str]], asked)
    if norm is not None and not (operators is not None and all(sets) and batch_norm.is_foldable(norm, sets[0])):
        x, overwrite = applied(norm, x, overwrite)
        norm = None
    if operators is None:
        return x
    reader = MapReader(x, operators, *sets, norm=norm, shortcut=shortcut, relu=relu, overwrite=overwrite)
    return cast(Tensor, reader)


def applied(norm: nn.Module, x: Tensor, overwrite: bool) -> tuple[Tensor, bool]:
    """norm(x), and whether its memory may be overwritten; not by default if the layer returns x itself."""
    y = norm(x)
    return y, overwrite or y is not x


def finished(y: Tensor, shortcut: Tensor | None, relu: bool) -> Tensor:
    """Add a shortcut to y and apply a ReLU, if they are wanted, in the memory of y."""
    y = y if shortcut is None else y.add_(shortcut)
    return torch.relu_(y) if relu else y


def _named(values: Tensor, which: int, shape: tuple[int, ...]) -> dict[str, Tensor]:
    """Rows of values by the names of their statistics, with the last axis of each unflattened to `shape`."""
    return dict(zip(spec.names_of(which), values.unflatten(2, shape).unbind(), strict=True)) if which else {}


def _finished(names: Sequence[str], of: dict[str, Tensor], n: int, known: dict[str, Tensor]) -> list[Tensor]:
    """Statistics of n elements from those that kernels compute; `known` keeps each, so that it is computed once."""
    for name in names:
        if name not in known:
            finish = STATISTICS[name].finish
            known[name] = of[name] if finish is None else finish(of, n)
    return list(map(known.__getitem__, names))


def _by_definition(
    x: Tensor, names: Sequence[str], dims: list[int], known: dict[tuple[str, tuple[int, ...]], Tensor]
) -> list[Tensor]:
    """Statistics by their definitions; `known` keeps each, so that it is computed once."""
    axes = tuple(dims)
    missing = [name for name in dict.fromkeys(names) if (name, axes) not in known]
    for name, value in zip(missing, statistics.compute(x, missing, dims), strict=True):
        known[name, axes] = value
    return [known[name, axes] for name in names]
