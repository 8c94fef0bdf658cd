"""Weighted sums over the standardised channels of a map, without storing the standardised map.

On the CPU they are computed for a few samples at a time; elsewhere, and for second derivatives, by their definition.
"""

from typing import Any

import torch
from torch import Tensor

from sase_attn import statistics
from sase_attn.kernels import autograd, dispatch, layout
from sase_attn.kernels.cpu.chunks import Chunks


def standardised_sums(x: Tensor, mean: Tensor, scale: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Σ_c w·u and Σ_c w²·u² of u = (x − mean)·scale at each position, for each row w of the weights.

    Args:
        x: (B, C, H, W). `mean`, `scale`: (B, C, 1, 1). `weights`: (B, K, C).

    Returns:
        Two of (B, K, H, W), float64 for a float64 map, float32 for other ones.
    """
    by_pieces = dispatch.operators_for(x) is dispatch.cpu_operators()
    sums = _Sums.apply if by_pieces else _definition
    first, second = sums(x, mean.flatten(1), scale.flatten(1), weights)
    return first.unflatten(2, x.shape[2:]), second.unflatten(2, x.shape[2:])


def _definition(x: Tensor, mean: Tensor, scale: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    u = (statistics.upcast(x).flatten(2) - mean[:, :, None]) * scale[:, :, None]
    return statistics.matmul(weights, u), statistics.matmul(weights.square(), u.square())


class _Sums(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, *rows: Tensor) -> tuple[Tensor, Tensor]:
        chunks = Chunks(x)
        mean, scale, weights = (row.to(chunks.type) for row in rows)
        squares = weights.square()
        shape = len(x), weights.shape[1], x.shape[2] * x.shape[3]
        first, second = (x.new_empty(shape, dtype=chunks.type) for _ in range(2))
        for part in chunks.parts:
            u = _standardised(chunks, part, mean, scale)
            torch.bmm(weights[part], u, out=first[part])
            torch.bmm(squares[part], u.square_(), out=second[part])
        ctx.save_for_backward(x, *rows)
        return first, second

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        leaves = ctx.saved_tensors
        if autograd.takes_definition(*grads):
            return tuple(autograd.by_definition(lambda *args: list(_definition(*args)), leaves, list(grads)))
        x, *rows = leaves
        chunks = Chunks(x)
        mean, scale, weights = (row.to(chunks.type) for row in rows)
        slopes = 2 * weights.square()
        dx = torch.empty_like(x, memory_format=layout.dense_format(x))
        out = chunks.dense(dx)
        of_weights, of_squares = (torch.empty_like(weights) for _ in range(2))
        total = torch.empty_like(mean)
        for part in chunks.parts:
            u = _standardised(chunks, part, mean, scale)
            g_first, g_second = (g[part] for g in grads)
            # dL/du = Σ_w w·g₁ + 2·w²·g₂·u; products of matrices with so few columns would be slower.
            d, factor = chunks.target(out, part), chunks.buffer("b", part)
            _outer(weights[part], g_first, d)
            d.addcmul_(_outer(slopes[part], g_second, factor), u)
            torch.sum(d, 2, out=total[part])
            chunks.store(out, part, d.mul_(scale[part].unsqueeze(2)))
            torch.bmm(g_first, u.mT, out=of_weights[part])
            torch.bmm(g_second, u.square_().mT, out=of_squares[part])
        # Sums over positions: the gradient of w itself, and, multiplied by w, that of the scale.
        d_weights = of_weights.addcmul_(weights, of_squares, value=2)
        d_scale = (weights * d_weights).sum(1) / scale.clamp_min(torch.finfo(scale.dtype).tiny)
        found = -total * scale, d_scale, d_weights
        return dx, *(value.to(row.dtype) for value, row in zip(found, rows, strict=True))


def _standardised(chunks: Chunks, part: slice, mean: Tensor, scale: Tensor) -> Tensor:
    """A part of u, in a buffer."""
    deviation = torch.sub(chunks.load(part), mean[part].unsqueeze(2), out=chunks.buffer("a", part))
    return deviation.mul_(scale[part].unsqueeze(2))


def _outer(of_channels: Tensor, of_positions: Tensor, out: Tensor) -> Tensor:
    """Σ_k of_channels (b, K, C) · of_positions (b, K, P), (b, C, P)."""
    pairs = zip(of_channels.unsqueeze(3).unbind(1), of_positions.unsqueeze(2).unbind(1), strict=True)
    for k, (channel, position) in enumerate(pairs):
        if k == 0:
            torch.mul(channel, position, out=out)
        else:
            out.addcmul_(channel, position)
    return out
