"""Reductions of a feature map over a group of its axes: the eager definitions of every statistic in the library.

Each takes `x` of any floating type and `dims`, the axes to reduce; these stay as axes of length 1. float16 and bfloat16
are reduced and returned in float32, float32 and float64 in their own type. All are finite, with finite gradients, for
zero maps, constant maps and a single element.

The functions are leaves for `torch.fx` (they look at types and shapes), so call them as `statistics.mean(...)`.

Where `sase_attn.kernels` takes a map, eager calls over [2, 3] or [1] of those marked `twin` are computed there instead;
`several` computes any of them in one read. What is written here is the definition of both.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import wraps
from typing import Any

import torch
from torch import Tensor

from sase_attn.kernels import autograd, backend


def fused(x: object, dims: list[int]) -> bool:
    """Whether kernels compute the statistics of a map over these axes."""
    return isinstance(x, Tensor) and x.dim() == 4 and dims in ([2, 3], [1]) and backend.takes(x)


class Reads:
    """Statistics of a map, and the map gated, by kernels that read it once for each; where it is `fused` only.

    Args:
        space: names of statistics over [2, 3]; `channels`, over [1]; `weighted`, over [1] of the map times a weight.
    """

    def __init__(self, x: Tensor, space: list[str], channels: list[str], weighted: list[str]) -> None:
        sets = [parts(names) for names in (space, channels, weighted)]
        self._map = autograd.SharedMap(x, backend.operators(x), kernel_definition, *sets)
        self._channels, self._weighted = channels, weighted
        self.space = completed(space, self._map.space, _count(x, [2, 3]))
        """Those over [2, 3], in the order asked for."""
        self._n = x.shape[1]

    def over_channels(self, weight: Tensor | None = None) -> tuple[list[Tensor], list[Tensor]]:
        """Those over [1], plain and weighted by (B, C, 1, 1), in the order asked for."""
        plain, weighted = self._map.over_channels(weight)
        return completed(self._channels, plain, self._n), completed(self._weighted, weighted, self._n)

    def gate(
        self,
        channel: Tensor,
        position: Tensor,
        shortcut: Tensor | None = None,
        relu: bool = False,
        overwrite: bool = False,
    ) -> Tensor:
        """x·(channel + position) for (B, C, 1, 1) and (B, 1, H, W), plus a shortcut, through a ReLU; once, at last.

        `overwrite`: x may be lost where no gradient is recorded.
        """
        return self._map.gate(channel, position, shortcut, relu, overwrite)


PARTS: dict[str, tuple[str, ...]] = {
    "mean": ("mean",),
    "maximum": ("maximum",),
    "std": ("std",),
    "biased_std": ("std",),
    "third_moment": ("third",),
    "skewness": ("std", "third"),
    "l4": ("l4",),
    "l4_mean": ("l4",),
}
"""Of each statistic, those of the kernels that it follows from; see `completed`."""


def parts(names: list[str]) -> tuple[str, ...]:
    """The statistics of the kernels that these follow from."""
    return tuple(part for name in names for part in PARTS[name])


def completed(names: list[str], of: dict[str, Tensor], n: int) -> list[Tensor]:
    """Statistics of n elements from what kernels compute of them."""
    found: list[Tensor] = []
    for name in names:
        if name == "std":
            found.append(of["std"] * (n / max(n - 1, 1)) ** 0.5)
        elif name == "skewness":
            found.append(of["third"] / (of["std"].square() + 1e-5) ** 1.5)
        elif name == "l4_mean":
            found.append(of["l4"] / n**0.25)
        else:
            found.append(of[PARTS[name][0]])
    return found


def kernel_definition(x: Tensor, names: list[str], dims: list[int]) -> list[Tensor]:
    """What kernels compute (`selection.STATISTICS`), by the functions below."""
    functions_of = {"mean": mean, "maximum": maximum, "std": biased_std, "third": third_moment, "l4": l4}
    return [functions_of[name].__wrapped__(x, dims) for name in names]  # type: ignore[attr-defined]


def _one_read(x: Tensor, names: list[str], dims: list[int]) -> list[Tensor]:
    if dims == [1]:
        return Reads(x, [], names, []).over_channels()[0]
    return Reads(x, names, [], []).space


def _pays(x: Tensor, names: list[str]) -> bool:
    """On a CPU the mean by itself is as fast by its definition, whose gradient takes no memory."""
    return names != ["mean"] or backend.operators(x) is not backend.chunked()


def twin(definition: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Let kernels compute a statistic where they can. TorchScript sees the definition, which `wraps` keeps."""
    name = definition.__name__

    @wraps(definition)
    def call(x: Tensor, dims: list[int], **options: Any) -> Tensor:
        if not options and fused(x, dims) and _pays(x, [name]):
            return _one_read(x, [name], dims)[0]
        return definition(x, dims, **options)

    return call


@torch.fx.wrap
def several(x: Tensor, names: list[str], dims: list[int]) -> list[Tensor]:
    """Statistics by the names of the functions below, in the order asked for."""
    if not torch.jit.is_scripting():  # noqa: SIM102  TorchScript compiles the other operand of an `and`
        if fused(x, dims) and _pays(x, names):
            return _one_read(x, names, dims)
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


def compiling(x: Tensor) -> bool:
    """Whether torch.compile makes code for the CPU of this call; forms that run fast there are then taken.

    Exports, which are compiled later or elsewhere, keep the definition, and so do other devices: nothing was measured
    on them.
    """
    return torch.compiler.is_compiling() and not torch.compiler.is_exporting() and x.device.type == "cpu"


@torch.fx.wrap
def upcast(x: Tensor) -> Tensor:
    """`x` in the type it is reduced in: float32 for float16 and bfloat16, otherwise its own."""
    if x.dtype == torch.float16 or x.dtype == torch.bfloat16:
        return x.float()
    return x


@twin
@torch.fx.wrap
def mean(x: Tensor, dims: list[int]) -> Tensor:
    """Arithmetic mean."""
    return upcast(x).mean(dims, keepdim=True)


@twin
@torch.fx.wrap
def maximum(x: Tensor, dims: list[int]) -> Tensor:
    """Largest element; ties share the gradient equally, as in `torch.amax`."""
    return upcast(x.amax(dims, keepdim=True))


@twin
@torch.fx.wrap
def std(x: Tensor, dims: list[int]) -> Tensor:
    """Unbiased standard deviation, 0 (not NaN) of a single element; its gradient is 0 where it is 0."""
    n = _count(x, dims)
    # n - 1, or 1 where n is 1; arithmetic rather than a branch or max(), so that exported sizes stay dynamic.
    unbiased = n - 1 + 1 // n
    return biased_std(x, dims) * (n**0.5 / unbiased**0.5)


@twin
@torch.fx.wrap
def biased_std(x: Tensor, dims: list[int]) -> Tensor:
    """Standard deviation divided by n, not n - 1; its gradient is 0 where it is 0."""
    # std_mean, because TorchScript differentiates torch.std by a formula of its own that is NaN where it is 0.
    return torch.std_mean(upcast(x), dims, correction=0, keepdim=True)[0]


@twin
@torch.fx.wrap
def third_moment(x: Tensor, dims: list[int]) -> Tensor:
    """Third central moment E[(x - μ)³], not divided by σ³."""
    x = upcast(x)
    deviation = x - x.mean(dims, keepdim=True)
    return (deviation * deviation * deviation).mean(dims, keepdim=True)


@twin
@torch.fx.wrap
def skewness(x: Tensor, dims: list[int], eps: float = 1e-5) -> Tensor:
    """Standardised third moment E[(x - μ)³] / (σ² + eps)^1.5 with the biased σ²."""
    x = upcast(x)
    deviation = x - x.mean(dims, keepdim=True)
    square = deviation * deviation
    return (square * deviation).mean(dims, keepdim=True) / (square.mean(dims, keepdim=True) + eps) ** 1.5


@twin
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
    """The same of float32 in one read: in float64, its fourth powers neither overflow nor vanish."""
    square = x.double().square()
    # The smallest sum that is not 0 is 1e-180: the clamp only keeps the root's gradient finite at 0.
    return (square * square).sum(dims, keepdim=True).clamp(min=1e-200).sqrt().sqrt().to(x.dtype)


@twin
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
    return torch.autocast(x.device.type, enabled=False) if under_autocast(x) else nullcontext()


def under_autocast(x: Tensor) -> bool:
    """Whether autocast is on for the device of `x`."""
    return x.device.type != "meta" and torch.is_autocast_enabled(x.device.type)


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
