"""Gradients on the CPU: of a map through its statistics and gates, and of the weight in statistics of x·weight."""

from typing import Self

import torch
from torch import Tensor

from sase_attn.kernels import layout
from sase_attn.kernels.cpu import piece_statistics
from sase_attn.kernels.cpu.chunks import Chunks
from sase_attn.kernels.cpu.piece_statistics import Rows, row_sets


def weight_backward(
    x: Tensor, weight: Tensor, grads: Tensor, values: Tensor, saved: Tensor, weighted: int
) -> Tensor:  # fmt: skip
    """Gradient (B, C) of the weight, through statistics of x·weight over the channels."""
    chunks = Chunks(x)
    rows, slopes = Rows(weighted, values, saved), Rows(weighted, grads, saved)
    weight = weight.to(chunks.type)
    found = torch.empty_like(weight)
    if piece_statistics.third_powers_are_safe(rows, weight):
        cubic = (slopes.of["l4"] / rows.of["l4"] ** 3).unsqueeze(1)
        for part in chunks.parts:
            piece = chunks.load(part)
            power = torch.mul(piece, piece, out=chunks.buffer("a", part))
            # A sum is used because batched matrix-vector products are slow.
            torch.sum(power.mul_(power).mul_(cubic[part]), 2, out=found[part])
        found.mul_(weight**3)
        if found.isfinite().all():  # otherwise x is so large that its powers overflow, although x·weight is small
            return found
    for part in chunks.parts:
        piece = chunks.load(part)
        slope = _slope_of_product(rows, slopes, chunks, part, piece, weight)
        torch.sum(slope.mul_(piece), 2, out=found[part])
    return found


def map_backward(
    x: Tensor, g: Tensor | None, channel: Tensor | None, position: Tensor | None, space_grads: Tensor | None,
    space_values: Tensor | None, space_saved: Tensor | None, weight: Tensor | None, grads: Tensor | None,
    values: Tensor | None, saved: Tensor | None, space: int, unweighted: int, weighted: int, sign: Tensor | None = None,
    scale_shift: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Gradient of x: g·(channel + position), plus those through the statistics over positions and over channels.

    With `scale_shift`, x stands for the u of u·sign·scale + shift, and the gradient is that of u. The statistics over
    the positions are then those of u·sign.
    """
    chunks = Chunks(x, sign, scale_shift)
    scale = None if scale_shift is None else scale_shift[0]
    dx = torch.empty_like(x, memory_format=layout.dense_format(x))
    out = chunks.dense(dx)
    gradient = None if g is None else chunks.dense(g)
    over_space: tuple[Rows, Rows] | None = None
    if space_grads is not None and space_values is not None and space_saved is not None:
        over_space = Rows(space, space_values, space_saved), Rows(space, space_grads, space_saved)
    over_channels: ChannelSlopes | None = None
    if grads is not None and values is not None and saved is not None:
        over_channels = ChannelSlopes(chunks, weight, grads, values, saved, unweighted, weighted)
    for part in chunks.parts:
        d = chunks.target(out, part)
        positions = d.shape[2]
        of_channel = None
        if over_space is not None and scale is None:
            of_channel = piece_statistics.constant(*over_space, part, positions)
        _start(d, of_channel, None if over_channels is None else over_channels.constant(part))
        if gradient is not None and channel is not None and position is not None:
            factor = torch.add(channel[part].unsqueeze(2), position[part].unsqueeze(1), out=chunks.buffer("a", part))
            d.addcmul_(chunks.load_other(gradient, part, "g"), factor)
        if over_channels is not None:
            over_channels.add(d, part, chunks.load(part))
        if scale is not None:
            if over_space is not None:
                of_channel = piece_statistics.constant(*over_space, part, positions)
            if of_channel is None:
                d.mul_(scale.unsqueeze(1))
            else:
                torch.addcmul(of_channel.unsqueeze(2), d, scale.unsqueeze(1), out=d)
        if over_space is not None and over_space[0].names != ("mean",):
            piece_statistics.add_slope(d, *over_space, chunks, part, chunks.raw(part), 2)
        if sign is not None:
            d.mul_(sign.unsqueeze(1))
        chunks.store(out, part, d)
    return dx


class ChannelSlopes:
    """dL/dx through statistics over the channels, of x and of x·weight: a constant per position, and the rest."""

    def __init__(
        self, chunks: Chunks, weight: Tensor | None, grads: Tensor, values: Tensor, saved: Tensor, unweighted: int,
        weighted: int,
    ) -> None:  # fmt: skip
        rows, slopes = row_sets(unweighted, weighted, values, saved), row_sets(unweighted, weighted, grads, saved)
        self._chunks = chunks
        self._unweighted = rows[0], slopes[0]
        self._weighted = rows[1], slopes[1]
        self._weight = None if weight is None else weight.to(chunks.type)
        self._cubes = self._weight is not None and piece_statistics.third_powers_are_safe(rows[1], self._weight)

    def constant(self, part: slice) -> Tensor | None:
        """The part that is the same for all channels of a position; None if there is none."""
        n = self._chunks.channels
        return piece_statistics.constant(*self._unweighted, part, n)

    def unweighted(self, part: slice, x: Tensor) -> Tensor | None:
        """dL/dx without the weighted statistics: a piece, or (b, 1, P) if it is the same for all channels."""
        constant = self.constant(part)
        row = None if constant is None else constant.unsqueeze(1)
        if not set(self._unweighted[0].names) - {"mean"}:
            return row
        d = self._chunks.buffer("d", part)
        _start(d, None, constant)
        piece_statistics.add_slope(d, *self._unweighted, self._chunks, part, x, 1)
        return d

    def of_product(self, part: slice, x: Tensor) -> tuple[Tensor, Tensor | None] | None:
        """dL/dv of v = x·weight, or None without weighted statistics.

        It is returned as a piece that may be overwritten, and a factor (b, C) or None by which to multiply it.
        """
        if self._weight is None or not self._weighted[0].names:
            return None
        if not self._cubes:
            return _slope_of_product(*self._weighted, self._chunks, part, x, self._weight), None
        norm, grad = (rows.at("l4", part, 1) for rows in self._weighted)
        power = torch.mul(x, x, out=self._chunks.buffer("a", part))
        return power.mul_(x).mul_(grad / norm**3), self._weight[part] ** 3

    def avoiding_overflow(self) -> Self:
        """Compute third powers of x·weight from now on, and not of x alone, which may overflow; return self."""
        self._cubes = False
        return self

    def add(self, d: Tensor, part: slice, x: Tensor) -> None:
        """Add everything but `constant` to the piece `d`; x is overwritten."""
        piece_statistics.add_slope(d, *self._unweighted, self._chunks, part, x, 1)
        if self._weight is None:
            return
        factor = self._weight[part].unsqueeze(2)
        if self._cubes:
            norm, grad = (rows.at("l4", part, 1) for rows in self._weighted)
            power = torch.mul(factor.square().square(), grad / norm**3, out=self._chunks.buffer("a", part))
            d.addcmul_(power.mul_(x).mul_(x), x)
        else:
            d.addcmul_(_slope_of_product(*self._weighted, self._chunks, part, x, self._weight), factor)


def _slope_of_product(rows: Rows, grads: Rows, chunks: Chunks, part: slice, piece: Tensor, weight: Tensor) -> Tensor:
    """dL/dv of v = x·weight, through statistics over the channels."""
    v = torch.mul(piece, weight[part].unsqueeze(2), out=chunks.buffer("product", part))
    slope = chunks.buffer("slope", part)
    _start(slope, None, piece_statistics.constant(rows, grads, part, v.shape[1]))
    piece_statistics.add_slope(slope, rows, grads, chunks, part, v, 1)
    return slope


def _start(d: Tensor, channel: Tensor | None, position: Tensor | None) -> None:
    """Fill a piece with the sum of a value per channel and a value per position, each 0 if it is None."""
    if channel is not None and position is not None:
        torch.add(channel.unsqueeze(2), position.unsqueeze(1), out=d)
    elif channel is not None:
        d.copy_(channel.unsqueeze(2))
    elif position is not None:
        d.copy_(position.unsqueeze(1))
    else:
        d.zero_()
