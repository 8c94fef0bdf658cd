"""Statistics of a piece of a map over one of its axes, and their derivatives, with temporaries in buffers.

`axis` is 2 (positions) or 1 (channels) of pieces (b, C, P), and results are (b, C) or (b, P). Fourth powers are
those of the elements if their sums show that no term overflowed or vanished, otherwise of elements over the largest.
"""

import torch
from torch import Tensor

from sase_attn.kernels import spec
from sase_attn.kernels.cpu.chunks import Chunks

SUMS = 1e-30, 1e20  # range of sums of fourth powers in which float32 has lost no term that matters
NORMS = 1e-5, 1e5  # range of norms whose third powers float32 can hold
WEIGHTS = 1e-4, 1e4  # the same range for the largest weight of each sample


class Rows:
    """The rows of a set of statistics by name, and the rows saved with them (`centre` and `variance`)."""

    def __init__(self, which: int, values: Tensor, saved: Tensor) -> None:
        self.names = spec.names_of(which)
        self.of = dict(zip(self.names, values, strict=True)) if which else {}
        if "biased_std" in self.of or "third_moment" in self.of:
            self.of |= {"centre": saved[-2], "variance": saved[-1]}

    def at(self, name: str, part: slice, axis: int) -> Tensor:
        """The part of a row that belongs to a piece, shaped to be broadcast over it."""
        return self.of[name][part].unsqueeze(axis)


def row_sets(unweighted: int, weighted: int, values: Tensor, saved: Tensor) -> tuple[Rows, Rows]:
    """The rows of statistics of x, and the rows of statistics of x·weight, which follow them."""
    count, own = unweighted.bit_count(), spec.saved_rows(unweighted)
    return Rows(unweighted, values[:count], saved[:own]), Rows(weighted, values[count:], saved[own:])


def write(rows: Rows, chunks: Chunks, part: slice, v: Tensor, axis: int) -> None:
    """Write every statistic of the piece `v` to its row; for an L4 norm the sum of fourth powers, see `finish`."""
    of = rows.of
    if "mean" in of:
        torch.mean(v, axis, out=of["mean"][part])
    if "maximum" in of:
        torch.amax(v, axis, out=of["maximum"][part])
    if "centre" in of:
        centre = torch.mean(v, axis, out=of["centre"][part])
        deviation = torch.sub(v, centre.unsqueeze(axis), out=chunks.buffer("a", part))
        power = torch.mul(deviation, deviation, out=chunks.buffer("b", part))
        variance = torch.mean(power, axis, out=of["variance"][part])
        if "biased_std" in of:
            torch.sqrt(variance, out=of["biased_std"][part])
        if "third_moment" in of:
            # The rounding error of the mean matters where the mean is many standard deviations.
            offset = deviation.mean(axis)
            third = torch.mean(power.mul_(deviation), axis, out=of["third_moment"][part])
            third.sub_(offset * (3 * variance - 2 * offset * offset))
    if "l4" in of:
        power = torch.mul(v, v, out=chunks.buffer("a", part))
        torch.sum(power.mul_(power), axis, out=of["l4"][part])


class Weight:
    """A weight (B, C) of the channels, divided by the largest magnitude of each sample, and its fourth powers."""

    def __init__(self, weight: Tensor) -> None:
        self.largest = weight.abs().amax(1, keepdim=True)
        self.relative = weight / self.largest.clamp(min=torch.finfo(weight.dtype).tiny)
        self.fourth = self.relative.square().square().unsqueeze(1)


def write_weighted_norm(total: Tensor, weight: Weight, chunks: Chunks, part: slice, x: Tensor) -> None:
    """Sums over the channels of fourth powers of x·weight, from the powers of both, without the product in memory."""
    power = torch.mul(x, x, out=chunks.buffer("a", part))
    torch.bmm(weight.fourth[part], power.mul_(power), out=total[part].unsqueeze(1))


def finish(rows: Rows, weight: Tensor | None, chunks: Chunks, axis: int) -> None:
    """Turn sums of fourth powers into L4 norms; recompute pieces whose sums have lost terms from the map itself."""
    total = rows.of["l4"]
    inexact = [] if _within(total, SUMS) else [part for part in chunks.parts if not _within(total[part], SUMS)]
    total.sqrt_().sqrt_()
    for part in inexact:
        x = chunks.load(part)
        v = x if weight is None else x * weight[part].unsqueeze(2)
        largest = v.abs().amax(axis, keepdim=True)
        square = (v / torch.where(largest == 0, 1.0, largest)).square_()
        norm = square.square_().sum(axis, keepdim=True).sqrt_().sqrt_() * largest
        total[part] = norm.squeeze(axis)


def constant(rows: Rows, grads: Rows, part: slice, n: int) -> Tensor | None:
    """The part of dL/dv, for v of n elements, that is the same for all elements; None if there is none."""
    found = grads.of["mean"][part] / n if "mean" in grads.of else None
    if "third_moment" in grads.of:
        through_mean = grads.of["third_moment"][part] * (-3 / n) * rows.of["variance"][part]
        found = through_mean if found is None else found + through_mean
    return found


def add_slope(d: Tensor, rows: Rows, grads: Rows, chunks: Chunks, part: slice, v: Tensor, axis: int) -> None:
    """Add dL/dv without the part that `constant` returns to the piece `d`."""
    n = v.shape[axis]
    if "maximum" in rows.of:
        tied = torch.eq(v, rows.at("maximum", part, axis), out=chunks.buffer("a", part))
        d.addcmul_(tied, grads.at("maximum", part, axis) / tied.sum(axis, keepdim=True))
    if "centre" in rows.of:
        deviation = torch.sub(v, rows.at("centre", part, axis), out=chunks.buffer("a", part))
        slope = torch.zeros_like(rows.at("centre", part, axis))
        if "biased_std" in rows.of:
            std = rows.at("biased_std", part, axis)
            slope = torch.where(std == 0, 0.0, grads.at("biased_std", part, axis) / (n * std))
        if "third_moment" in rows.of:
            quadratic = grads.at("third_moment", part, axis) * (3 / n)
            d.addcmul_(torch.mul(deviation, quadratic, out=chunks.buffer("b", part)).add_(slope), deviation)
        else:
            d.addcmul_(deviation, slope)
    if "l4" in rows.of:
        d.addcmul_(*_cube(rows, grads, chunks, part, v, axis))


def third_powers_are_safe(rows: Rows, weight: Tensor) -> bool:
    """Whether third powers of x and of the weight can be computed separately for a weighted L4 norm."""
    return rows.names == ("l4",) and _within(rows.of["l4"], NORMS) and _within(weight.abs().amax(1), WEIGHTS)


def _cube(rows: Rows, grads: Rows, chunks: Chunks, part: slice, v: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """The two factors of dL/dv for an L4 norm: third powers of v, and the row by which to multiply them."""
    norm, grad = rows.at("l4", part, axis), grads.at("l4", part, axis)
    cube = chunks.buffer("b", part)
    if _within(norm, NORMS):
        return torch.mul(v, v, out=cube).mul_(v), grad / norm**3
    ratio = torch.mul(v, torch.where(norm < torch.finfo(v.dtype).tiny, 0.0, 1 / norm), out=chunks.buffer("a", part))
    return torch.mul(ratio, ratio, out=cube).mul_(ratio), grad


def _within(values: Tensor, limits: tuple[float, float]) -> bool:
    """Whether all values are within the limits; False if one is NaN."""
    least, most = torch.aminmax(values)
    return bool((least >= limits[0]) & (most <= limits[1]))
