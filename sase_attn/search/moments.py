"""Statistics of a map over its positions, its channels or both in one pass, with a backward pass of its own.

For each channel (over H, W) or each position (over C): mean, maximum, biased variance, third central moment and L4
norm, equal to those of `sase_attn.statistics`. A few samples are worked on at a time, so that temporaries stay in the
cache: no tensor of the map's size but the gradient is ever made. Deviation: L4 scales by the largest magnitude of the
sample instead of that of each channel or position, so that values below 1e-9 of it count as zero in float32.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

CHUNK_BYTES = 2**21


class Moments(NamedTuple):
    """Statistics over the axes `dims`, which stay as axes of length 1; `elements` went into each."""

    mean: Tensor
    maximum: Tensor
    variance: Tensor
    third: Tensor
    l4: Tensor
    elements: int
    dims: tuple[int, ...]


SPACE, CHANNELS = (2, 3), (1,)


def moments(x: Tensor, *groups: tuple[int, ...]) -> list[Moments]:
    """Statistics of a float32 or float64 map (B, C, H, W) over each group of axes: `SPACE`, `CHANNELS` or both."""
    height, width = x.shape[2:]
    values = _Moments.apply(x.flatten(2), *(2 if group == SPACE else 1 for group in groups))
    found = []
    for place, group in enumerate(groups):
        width_left, elements = (1, height * width) if group == SPACE else (width, x.shape[1])
        own = [value.unflatten(2, (-1, width_left)) for value in values[5 * place :][:5]]
        mean, maximum, variance, third, l4 = own
        found.append(Moments(mean, maximum, variance, third, l4, elements, group))
    return found


class _Moments(torch.autograd.Function):
    """(B, C, N) → five (B, C, 1) for each 2 among `dims`, and five (B, 1, N) for each 1."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *dims: int) -> tuple[Tensor, ...]:
        scale = x.new_empty(len(x), 1, 1)
        results: list[list[Tensor]] = [[] for _ in range(5 * len(dims))]
        for rows in ranges(x):
            part = x[rows]
            low, high = part.flatten(1).aminmax(dim=1)
            largest = torch.maximum(-low, high)[:, None, None]
            scale[rows] = size = torch.where(largest == 0, torch.ones_like(largest), largest)
            fourth = (part / size).square_().square_()
            for place, dim in enumerate(dims):
                mean = part.mean(dim, keepdim=True)
                deviation = part - mean
                square = deviation.square()
                found = (
                    mean,
                    part.amax(dim, keepdim=True),
                    square.mean(dim, keepdim=True),
                    square.mul_(deviation).mean(dim, keepdim=True),
                    fourth.sum(dim, keepdim=True).sqrt_().sqrt_().mul_(size),
                )
                for values, value in zip(results[5 * place :], found, strict=False):
                    values.append(value)
        outputs = tuple(torch.cat(values) for values in results)
        ctx.dims = dims
        ctx.save_for_backward(x, scale, *outputs)
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, scale, *outputs = ctx.saved_tensors
        result = torch.empty_like(x)
        # dL/dx is a cubic in x whose coefficients are sums of one number a channel and one a position.
        groups, maxima = [], []
        for place, dim in enumerate(ctx.dims):
            mean, largest, variance, _, l4 = outputs[5 * place :][:5]
            g_mean, g_largest, g_variance, g_third, g_l4 = grads[5 * place :][:5]
            n, zero = x.shape[dim], l4 == 0
            root = scale / torch.where(zero, torch.ones_like(l4), l4)
            groups.append(
                (
                    torch.where(zero, torch.zeros_like(l4), g_l4 * root * root * root),
                    3 * g_third / n * scale.square(),
                    (2 * g_variance - 6 * mean * g_third) / n * scale,
                    (g_mean - 2 * mean * g_variance + 3 * (mean.square() - variance) * g_third) / n,
                )
            )
            maxima.append((largest, g_largest, dim))
        for rows in ranges(x):
            part = x[rows]
            scaled = part / scale[rows]
            g = result[rows].zero_()
            for power in range(4):
                for group in groups:
                    g.add_(group[power][rows])
                if power < 3:
                    g.mul_(scaled)
            for largest, g_largest, dim in maxima:
                hit = (part == largest[rows]).to(part.dtype)
                g.add_(hit.mul_(g_largest[rows] / hit.sum(dim, keepdim=True)))
        return result, *(None for _ in ctx.dims)


def ranges(x: Tensor) -> list[slice]:
    """Slices of the batch of about `CHUNK_BYTES` each; the whole batch on an accelerator."""
    step = len(x)
    if x.device.type == "cpu":
        step = max(1, CHUNK_BYTES // max(1, x[:1].numel() * x.element_size()))
    return [slice(start, start + step) for start in range(0, len(x), max(1, step))]
