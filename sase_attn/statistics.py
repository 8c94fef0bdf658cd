"""Statistics of a feature map over a group of its axes: definitions in plain torch, and the table of names.

Each accepts `x` of any floating type and `dims`, the axes to reduce, which are kept with length 1. float16 and bfloat16
are reduced and returned in float32, float32 and float64 in their own type. All are finite, with finite gradients, for
zero maps, constant maps and a single element.

The functions are leaves for `torch.fx`, because they branch on types and shapes: call them as `statistics.mean(...)`.
This file defines what is computed; `sase_attn.kernels` computes the same in fewer passes over the map.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor


def compiling(x: Tensor) -> bool:
    """Whether torch.compile is compiling this call for the CPU, where other forms of some formulas are faster.

    Exports, which are compiled later or elsewhere, keep the definition. So do other devices, on which nothing was
    measured.
    """
    return torch.compiler.is_compiling() and not torch.compiler.is_exporting() and x.device.type == "cpu"


class _Mode(threading.local):
    """Whether this thread needs second derivatives."""

    twice: bool = False


_MODE = _Mode()


@contextmanager
def twice_differentiable() -> Iterator[None]:
    """Within the context, second derivatives too are finite for zero and constant maps: 0 where a square root is 0.

    torch's own second derivatives are NaN there. Values equal those of the definitions, up to rounding.
    """
    before, _MODE.twice = _MODE.twice, True
    try:
        yield
    finally:
        _MODE.twice = before


def _root(square: Tensor) -> Tensor:
    """√square, with derivatives of 0 of any order where it is 0."""
    zero = square == 0
    return torch.where(zero, torch.zeros_like(square), torch.where(zero, torch.ones_like(square), square).sqrt())


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
    n = count(x, dims)
    # n - 1, or 1 where n is 1; arithmetic rather than a branch or max(), so that exported sizes stay dynamic.
    unbiased = n - 1 + 1 // n
    return biased_std(x, dims) * (n**0.5 / unbiased**0.5)


@torch.fx.wrap
def biased_std(x: Tensor, dims: list[int]) -> Tensor:
    """Standard deviation with divisor n instead of n - 1; its gradient is 0 where it is 0."""
    x = upcast(x)
    if x.numel() == 0:  # an empty batch, for which torch.std_mean would warn
        return x.sum(dims, keepdim=True)
    if not torch.jit.is_scripting():  # noqa: SIM102  TorchScript compiles the other operand of an `and`
        if not torch.compiler.is_compiling() and _MODE.twice:
            return _root((x - x.mean(dims, keepdim=True)).square().mean(dims, keepdim=True))
    # std_mean, because TorchScript has its own gradient of torch.std, which is NaN where the result is 0.
    return torch.std_mean(x, dims, correction=0, keepdim=True)[0]


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
    if not torch.jit.is_scripting():  # noqa: SIM102  TorchScript compiles the other operand of an `and`
        if x.dtype == torch.float32 and compiling(x):
            return _l4_in_float64(x, dims)
    largest = x.detach().abs().amax(dims, keepdim=True)
    square = (x / torch.where(largest == 0, torch.ones_like(largest), largest)).square()
    # The largest term of the sum is 1 unless all are 0: the clamp only keeps the root's gradient finite there.
    return (square * square).sum(dims, keepdim=True).clamp(min=0.5).sqrt().sqrt() * largest


def _l4_in_float64(x: Tensor, dims: list[int]) -> Tensor:
    """`l4` of float32 in one read: in float64, its fourth powers neither overflow nor vanish."""
    square = x.double().square()
    # The smallest sum that is not 0 is 1e-180: the clamp only keeps the root's gradient finite at 0.
    return (square * square).sum(dims, keepdim=True).clamp(min=1e-200).sqrt().sqrt().to(x.dtype)


@torch.fx.wrap
def l4_mean(x: Tensor, dims: list[int]) -> Tensor:
    """Generalised mean with exponent four, (mean x⁴)^¼."""
    return l4(x, dims) / count(x, dims) ** 0.25


@torch.fx.wrap
def l2(x: Tensor, dims: list[int]) -> Tensor:
    """L2 norm; its gradient is 0 where the norm is 0."""
    if not torch.jit.is_scripting():  # noqa: SIM102  TorchScript compiles the other operand of an `and`
        if not torch.compiler.is_compiling() and _MODE.twice:
            return _root(upcast(x).square().sum(dims, keepdim=True))
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
    """A context without autocast on the device of `x`; if autocast is off, it does nothing, in a trace too."""
    on = x.device.type != "meta" and torch.is_autocast_enabled(x.device.type)
    return torch.autocast(x.device.type, enabled=False) if on else nullcontext()


def under_autocast(x: Tensor) -> bool:
    """Whether autocast is on for the device of `x`."""
    return x.device.type != "meta" and torch.is_autocast_enabled(x.device.type)


def count(x: Tensor, dims: list[int]) -> int:
    """The number of elements of a map over these axes."""
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


class Statistic(NamedTuple):
    """A statistic over some axes of a map, and how it follows from the statistics that kernels compute.

    Args:
        definition: computes it from the map and the axes.
        needs: names of the statistics that it follows from. Kernels compute a statistic that needs only itself.
        finish: computes it from those statistics by name and the number n of reduced elements; None where it is the
            single statistic that it needs.
        rescale: computes it for scale·x + shift with scale ≥ 0 from its value for x; None where that is not possible.
    """

    definition: Callable[[Tensor, list[int]], Tensor]
    needs: tuple[str, ...]
    finish: Callable[[dict[str, Tensor], int], Tensor] | None = None
    rescale: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None


# Statistics that kernels compute come first, in the order of the rows of their results.
STATISTICS: dict[str, Statistic] = {
    "mean": Statistic(mean, ("mean",), rescale=lambda value, scale, shift: value * scale + shift),
    "maximum": Statistic(maximum, ("maximum",), rescale=lambda value, scale, shift: value * scale + shift),
    "biased_std": Statistic(biased_std, ("biased_std",), rescale=lambda value, scale, shift: value * scale),
    "third_moment": Statistic(third_moment, ("third_moment",), rescale=lambda value, scale, shift: value * scale**3),
    "l4": Statistic(l4, ("l4",)),
    "std": Statistic(std, ("biased_std",), lambda of, n: of["biased_std"] * (n / max(n - 1, 1)) ** 0.5),
    "skewness": Statistic(
        skewness,
        ("biased_std", "third_moment"),
        lambda of, n: of["third_moment"] / (of["biased_std"].square() + 1e-5) ** 1.5,
    ),
    "l4_mean": Statistic(l4_mean, ("l4",), lambda of, n: of["l4"] / n**0.25),
}


@torch.fx.wrap
def compute(x: Tensor, names: list[str], dims: list[int]) -> list[Tensor]:
    """Statistics by the names of `STATISTICS`, each by its definition. Raises ValueError for a name that is not there.

    It branches on names because TorchScript, which compiles it, does not support a table of functions.
    """
    results: list[Tensor] = []
    for name in names:
        if name == "mean":
            results.append(mean(x, dims))
        elif name == "maximum":
            results.append(maximum(x, dims))
        elif name == "std":
            results.append(std(x, dims))
        elif name == "biased_std":
            results.append(biased_std(x, dims))
        elif name == "third_moment":
            results.append(third_moment(x, dims))
        elif name == "skewness":
            results.append(skewness(x, dims))
        elif name == "l4":
            results.append(l4(x, dims))
        elif name == "l4_mean":
            results.append(l4_mean(x, dims))
        else:
            raise ValueError(f"no statistic {name}")
    return results
