"""Passes over a map, a few samples at a time, with backward passes of their own: no temporary is as large as it is."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sase_attn.search.moments import ranges


def standardised_sums(x: Tensor, mean: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Σ_c u and Σ_c u² of u = (x − mean)·scale at each position.

    Args:
        x: (B, C, H, W). `mean`, `scale`: (B, C, 1, 1).

    Returns:
        Two of (B, 1, H, W).
    """
    first, second = _Sums.apply(x.flatten(2), mean.flatten(2), scale.flatten(2))
    return first.view(-1, 1, *x.shape[2:]), second.view(-1, 1, *x.shape[2:])


def gated(x: Tensor, channel: Tensor, position: Tensor) -> Tensor:
    """x·(channel + position) for masks (B, C, 1, 1) and (B, 1, H, W), without their sum as a map."""
    result: Tensor = _Gated.apply(x.flatten(2), channel.flatten(2), position.flatten(2))
    return result.view_as(x)


class _Sums(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, mean: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        shape = len(x), 1, x.shape[2]
        first, second = x.new_empty(shape), x.new_empty(shape)
        for rows in ranges(x):
            u = (x[rows] - mean[rows]).mul_(scale[rows])
            first[rows] = u.sum(1, keepdim=True)
            second[rows] = u.square_().sum(1, keepdim=True)
        ctx.save_for_backward(x, mean, scale)
        return first, second

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g_first: Tensor, g_second: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, mean, scale = ctx.saved_tensors
        g_x, g_mean, g_scale = torch.empty_like(x), torch.empty_like(mean), torch.empty_like(scale)
        for rows in ranges(x):
            deviation = x[rows] - mean[rows]
            # dL/du = g₁ + 2·g₂·u
            g = (deviation * scale[rows]).mul_(2 * g_second[rows]).add_(g_first[rows])
            g_scale[rows] = deviation.mul_(g).sum(2, keepdim=True)
            torch.mul(g, scale[rows], out=g_x[rows])
            g_mean[rows] = -g_x[rows].sum(2, keepdim=True)
        return g_x, g_mean, g_scale


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, channel: Tensor, position: Tensor) -> Tensor:
        y = torch.empty_like(x)
        for rows in ranges(x):
            torch.mul(channel[rows] + position[rows], x[rows], out=y[rows])
        ctx.save_for_backward(x, channel, position)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, channel, position = ctx.saved_tensors
        g_x, g_channel, g_position = torch.empty_like(x), torch.empty_like(channel), torch.empty_like(position)
        for rows in ranges(x):
            torch.mul(channel[rows] + position[rows], g[rows], out=g_x[rows])
            product = x[rows] * g[rows]
            g_channel[rows] = product.sum(2, keepdim=True)
            g_position[rows] = product.sum(1, keepdim=True)
        return g_x, g_channel, g_position
