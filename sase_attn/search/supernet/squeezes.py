"""`MixedSqueezes`: the mixed squeezes of a super-network block, from few passes over its input.

All statistics over positions are computed in one pass, then all those over channels, of x and of x·gate. The kernels of
`sase_attn.kernels` do so where they support the input. The product x·gate is only computed for operations that are not
known here, such as your own. Second-order pooling averages the positions once for both maps; L2 norms of standardised
channels are computed from sums over these.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sase_attn.kernels import dispatch, reader
from sase_attn.kernels.reader import CHANNELS, POSITIONS, MapReader, Product
from sase_attn.ops import channel_squeeze, functional, spatial_squeeze
from sase_attn.search.supernet.excitations import mixture
from sase_attn.search.supernet.standardised_sums import standardised_sums

Edge = tuple[Sequence[nn.Module], Tensor]
"""The operations of an edge, and their weights."""

EPS = 1e-5  # as in the operations that standardise
POOLING = spatial_squeeze.SpatialGSoP, spatial_squeeze.SpatialGSoPSample


class MixedSqueezes:
    """The mixtures of the channel squeezes of a map, and of the spatial squeezes of the map and of the gated map.

    Raises:
        RuntimeError: the backend "triton" was chosen, and its kernels do not support the map.
    """

    def __init__(self, x: Tensor, channel: Edge, of_gated: Edge, of_input: Edge) -> None:
        self._x = x
        self._channel, self._of_gated, self._of_input = channel, of_gated, of_input
        positions, channels, weighted = (
            [name for op in ops for name in reader.asked_of(op, dims) or ()]
            for ops, dims in ((channel[0], POSITIONS), (of_input[0], CHANNELS), (of_gated[0], CHANNELS))
        )
        if any(type(op) is channel_squeeze.ChannelL2Norm for op in channel[0]):
            positions.append("biased_std")
        if self._has_spatial(spatial_squeeze.SpatialL2Norm):
            positions += ["mean", "biased_std"]
        self._map = MapReader(x, dispatch.operators_for(x), positions, channels, weighted)
        self._channels, self._weighted = channels, weighted
        # Computed before the operations need it, so that the order in which gradients are summed, and with it their
        # last bit, does not depend on the order of the operations.
        if positions:
            self._map.statistics(list(dict.fromkeys(positions)), POSITIONS)

    def channel(self) -> Tensor:
        """The mixture of channel squeezes, (B, C, 1, 1)."""
        ops, weights = self._channel
        return mixture([self._channel_squeeze(op) for op in ops], weights)

    def _channel_squeeze(self, op: nn.Module) -> Tensor:
        if type(op) is channel_squeeze.ChannelL2Norm:
            (deviation,) = self._map.statistics(["biased_std"], POSITIONS)
            return _channel_l2norm(op, deviation.square(), self._x.shape[2] * self._x.shape[3])
        return _by_itself(op, self._map)

    def spatial(self, gate: Tensor) -> tuple[Tensor, Tensor]:
        """The mixtures of spatial squeezes of x·gate and of x, (B, 1, H, W), for a gate (B, C, 1, 1)."""
        product = self._map * gate
        if self._channels:
            self._map.statistics(self._channels, CHANNELS)
        if self._weighted:
            product.statistics(self._weighted, CHANNELS)
        sums = self._sums(gate) if self._has_spatial(spatial_squeeze.SpatialL2Norm) else [None, None]
        averages: list[Tensor | None] = [None, None]
        if self._has_spatial(*POOLING):
            averaged = spatial_squeeze.averaged(self._x)
            averages = [averaged * gate, averaged]
        size = self._x.shape[2:]
        of_gated, of_input = _Map(product, sums[0], averages[0], size), _Map(self._map, sums[1], averages[1], size)
        edges = (self._of_gated, of_gated), (self._of_input, of_input)
        first, second = (mixture([_spatial_squeeze(op, of) for op in ops], weights) for (ops, weights), of in edges)
        return first, second

    def gated(self, channel: Tensor, position: Tensor) -> Tensor:
        """x·(channel + position)."""
        return self._map.gate(channel, position)

    def _has_spatial(self, *types: type[nn.Module]) -> bool:
        """Whether there are spatial squeezes of these types."""
        return any(type(op) in types for op in (*self._of_gated[0], *self._of_input[0]))

    def _sums(self, gate: Tensor) -> list[tuple[Tensor, Tensor] | None]:
        """Σu and Σu² of the standardised channels of x·gate and of x.

        Those of x·gate are those of x times gate·√((σ² + eps)/(gate²·σ² + eps)).
        """
        mean, deviation = self._map.statistics(["mean", "biased_std"], POSITIONS)
        variance = deviation.square()
        scale = (variance + EPS).rsqrt()
        relative = gate * (variance + EPS).sqrt() * (gate.square() * variance + EPS).rsqrt()
        weights = torch.stack([relative.flatten(1), torch.ones_like(scale).flatten(1)], 1)
        first, second = standardised_sums(self._x, mean, scale, weights)
        return list(zip(first.split(1, 1), second.split(1, 1), strict=True))


class _Map(NamedTuple):
    """What spatial squeezes are computed from: the reader of a map, sums of its standardised channels, its averages."""

    reader: MapReader | Product
    sums: tuple[Tensor, Tensor] | None
    averaged: Tensor | None
    size: torch.Size


def _by_itself(op: nn.Module, x: MapReader | Product) -> Tensor:
    """A squeeze, which gets the reader if it accepts one, or else the whole map."""
    found: Tensor = op(x.tensor() if reader.asked_of(op, CHANNELS) is None else x)
    return found


def _spatial_squeeze(op: nn.Module, of: _Map) -> Tensor:
    if type(op) is spatial_squeeze.SpatialL2Norm and of.sums is not None:
        return _spatial_l2norm(op, *of.sums)
    if isinstance(op, POOLING) and type(op) in POOLING and of.averaged is not None:
        return op.pool(of.averaged, *of.size)
    return _by_itself(op, of.reader)


def _channel_l2norm(op: channel_squeeze.ChannelL2Norm, variance: Tensor, elements: int) -> Tensor:
    """√(n(γ²σ²/(σ² + eps) + β²)): the L2 norm of an affine instance norm, over the same axes."""
    gamma, beta = (parameter.to(variance.dtype)[:, None, None] for parameter in (op.weight, op.bias))
    return _root((gamma.square() * variance / (variance + EPS) + beta.square()) * elements)


def _spatial_l2norm(op: spatial_squeeze.SpatialL2Norm, first: Tensor, second: Tensor) -> Tensor:
    """√(w²·Σu² + 2wb·Σu + C·b²) at each position, u the standardised channels, w and b the affine of the position."""
    weight, bias = (functional.resize_like(parameter[None], first) for parameter in (op.weight, op.bias))
    square = weight.square() * second + 2 * weight * bias * first + op.channels * bias.square()
    return _root(square.clamp_min(0))


def _root(square: Tensor) -> Tensor:
    """√square, whose gradient is 0 where it is 0."""
    zero = square == 0
    return torch.where(zero, square, torch.where(zero, torch.ones_like(square), square).sqrt())
