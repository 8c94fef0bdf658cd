"""Reductions of a feature map over a group of its axes: the eager definitions of every statistic in the library.

Each takes `x` of any floating type and `dims`, the axes to reduce; these stay as axes of length 1. float16 and bfloat16
are reduced and returned in float32, float32 and float64 in their own type. All are finite, with finite gradients, for
zero maps, constant maps and a single element.

The functions are leaves for `torch.fx` (they look at types and shapes), so call them as `statistics.mean(...)`.
"""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


@torch.fx.wrap
def upcast(x: Tensor) -> Tensor:
    """`x` in the type it is reduced in: float32 for float16 and bfloat16, otherwise its own."""
    if x.dtype == torch.float16 or x.dtype == torch.bfloat16:
        return x.float()
    return x


@torch.fx.wrap
def mean(x: Tensor, dims: list[int]) -> Tensor:
    """Arithmetic mean."""
    return upcast(x).mean(dims, keepdim=True)


@torch.fx.wrap
def maximum(x: Tensor, dims: list[int]) -> Tensor:
    """Largest element; ties share the gradient equally, as in `torch.amax`."""
    return upcast(x.amax(dims, keepdim=True))


@torch.fx.wrap
def std(x: Tensor, dims: list[int]) -> Tensor:
    """Unbiased standard deviation, 0 (not NaN) of a single element; its gradient is 0 where it is 0."""
    n = _count(x, dims)
    # n - 1, or 1 where n is 1; arithmetic rather than a branch or max(), so that exported sizes stay dynamic.
    unbiased = n - 1 + 1 // n
    return biased_std(x, dims) * (n**0.5 / unbiased**0.5)


@torch.fx.wrap
def biased_std(x: Tensor, dims: list[int]) -> Tensor:
    """Standard deviation divided by n, not n - 1; its gradient is 0 where it is 0."""
    # std_mean, because TorchScript differentiates torch.std by a formula of its own that is NaN where it is 0.
    return torch.std_mean(upcast(x), dims, correction=0, keepdim=True)[0]


@torch.fx.wrap
def third_moment(x: Tensor, dims: list[int]) -> Tensor:
    """Third central moment E[(x - μ)³], not divided by σ³."""
    x = upcast(x)
    deviation = x - x.mean(dims, keepdim=True)
    return (deviation * deviation * deviation).mean(dims, keepdim=True)


@torch.fx.wrap
def skewness(x: Tensor, dims: list[int], eps: float = 1e-5) -> Tensor:
    """Standardised third moment E[(x - μ)³] / (σ² + eps)^1.5 with the biased σ²."""
    x = upcast(x)
    deviation = x - x.mean(dims, keepdim=True)
    square = deviation * deviation
    return (square * deviation).mean(dims, keepdim=True) / (square.mean(dims, keepdim=True) + eps) ** 1.5


@torch.fx.wrap
def l4(x: Tensor, dims: list[int]) -> Tensor:
    """L4 norm (Σ x⁴)^¼; no power overflows or vanishes, because x is divided by its largest magnitude first."""
    x = upcast(x)
    largest = x.detach().abs().amax(dims, keepdim=True)
    square = (x / torch.where(largest == 0, torch.ones_like(largest), largest)).square()
    # The largest term of the sum is 1 unless all are 0: the clamp only keeps the root's gradient finite there.
    return (square * square).sum(dims, keepdim=True).clamp(min=0.5).sqrt().sqrt() * largest


@torch.fx.wrap
def l4_mean(x: Tensor, dims: list[int]) -> Tensor:
    """Generalised mean with exponent four, (mean x⁴)^¼."""
    return l4(x, dims) / _count(x, dims) ** 0.25


@torch.fx.wrap
def l2(x: Tensor, dims: list[int]) -> Tensor:
    """L2 norm; its gradient is 0 where the norm is 0."""
    return torch.linalg.vector_norm(upcast(x), 2.0, dims, keepdim=True)


@torch.fx.wrap
def standardise(x: Tensor, dims: list[int], eps: float = 1e-5) -> Tensor:
    """(x - μ) / √(σ² + eps) with the biased σ², of the shape of `x`."""
    x = upcast(x)
    deviation = x - x.mean(dims, keepdim=True)
    return deviation * torch.rsqrt(deviation.square().mean(dims, keepdim=True) + eps)


@torch.fx.wrap
def covariance(x: Tensor, divisor: int) -> Tensor:
    """Covariance of the rows of `x` (B, N, M), centred over M and divided by `divisor`: (B, N, N)."""
    x = upcast(x)
    centred = x - x.mean(-1, keepdim=True)
    return matmul(centred, centred.transpose(1, 2)) / divisor


@torch.fx.wrap
def adaptive_mean(x: Tensor, dim: int, parts: int) -> Tensor:
    """Adaptive average pooling of axis -1 or -2 of `x` to `parts` elements, fewer or more than it has.

    Written as a product, so that it is deterministic on CUDA and exports with dynamic sizes.
    """
    x = upcast(x)
    weights = _segments(x, x.shape[dim], parts)
    return matmul(x, weights.transpose(0, 1)) if dim == -1 else matmul(weights, x)


@torch.fx.wrap
def matmul(a: Tensor, b: Tensor) -> Tensor:
    """`a @ b` in the operands' own type, under autocast too."""
    if torch.jit.is_scripting():
        return torch.matmul(a, b)
    with without_autocast(a):
        return torch.matmul(a, b)


def without_autocast(x: Tensor) -> AbstractContextManager[None]:
    """Context without autocast on the device of `x`; it enters nothing, so adds nothing to a trace, if that is off."""
    if x.device.type == "meta" or not torch.is_autocast_enabled(x.device.type):
        return nullcontext()
    return torch.autocast(x.device.type, enabled=False)


def _count(x: Tensor, dims: list[int]) -> int:
    n = 1
    for dim in dims:
        n = n * x.shape[dim]
    return n


def _segments(x: Tensor, size: int, parts: int) -> Tensor:
    """(parts, size) weights that average the elements ⌊i·size/parts⌋ … ⌈(i+1)·size/parts⌉ for each part i."""
    part = torch.arange(parts, device=x.device)[:, None]
    start = part * size // parts
    end = ((part + 1) * size + parts - 1) // parts
    element = torch.arange(size, device=x.device)[None]
    inside = (element >= start) & (element < end)
    return inside.to(x.dtype) / (end - start)
