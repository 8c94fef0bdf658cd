"""Functions shared by the operations; leaves for `torch.fx`, so call them as `functional.conv(...)`."""

from functools import reduce
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sase_attn import statistics
from sase_attn.kernels import reader

TAPS = 9
"""The most weights of a convolution that is written out for torch.compile: more would take long to compile."""


@torch.fx.wrap
def check_input(x: Tensor, channels: int) -> Tensor:
    """`x`, if it is a map (B, channels, H, W) of a type that `check_type` accepts, or a `MapReader` of such a map.

    B may be 0.

    Raises:
        ValueError: the map has another rank, number of channels or type, or H or W is 0.
        TypeError: `x` is no tensor.
    """
    if not torch.jit.is_scripting():  # noqa: SIM102  TorchScript compiles the other operand of an `and`
        if not isinstance(x, Tensor):
            return _checked_reader(x)
    shape = x.shape
    if len(shape) != 4 or shape[1] != channels:
        raise ValueError(f"expected an input of shape (B, {channels}, H, W), got {_sizes(x)}")
    if shape[2] < 1 or shape[3] < 1:
        raise ValueError(f"expected an input of shape (B, {channels}, H, W) with H and W at least 1, got {_sizes(x)}")
    if x.dtype != torch.float32:
        check_type(x)
    return x


@torch.fx.wrap
def check_values(z: Tensor, channels: int) -> Tensor:
    """`z`, if it has one value per channel, (B, channels, 1, 1), of a type that `check_type` accepts. B may be 0.

    Raises:
        ValueError: `z` has another shape or another type.
        TypeError: `z` is no tensor.
    """
    if not torch.jit.is_scripting():  # noqa: SIM102  TorchScript compiles the other operand of an `and`
        if not isinstance(z, Tensor):
            raise TypeError(f"expected a tensor, got {type(z).__name__}")
    shape = z.shape
    if len(shape) != 4 or shape[1] != channels or shape[2] != 1 or shape[3] != 1:
        raise ValueError(f"expected an input of shape (B, {channels}, 1, 1), got {_sizes(z)}")
    if z.dtype != torch.float32:
        check_type(z)
    return z


def check_type(x: Tensor) -> None:
    """Raise ValueError unless the type of `x` is float16, bfloat16, float32 or float64."""
    kind = x.dtype
    if kind != torch.float32 and kind != torch.float16 and kind != torch.bfloat16 and kind != torch.float64:
        raise ValueError(f"expected an input of type float16, bfloat16, float32 or float64, got {kind}")


def _sizes(x: Tensor) -> str:
    return "(" + ", ".join([str(size) for size in x.shape]) + ")"


@torch.jit.unused
def _checked_reader(x: object) -> Any:
    if isinstance(x, reader.MapReader | reader.Product):
        return x
    raise TypeError(f"expected a tensor, got {type(x).__name__}")


@torch.fx.wrap
def check_shortcut(x: Tensor, shortcut: Tensor) -> None:
    """Raise ValueError unless a shortcut has the shape and type of `x`."""
    if shortcut.shape != x.shape or shortcut.dtype != x.dtype:
        wanted, got = (f"{tuple(value.shape)} {value.dtype}" for value in (x, shortcut))
        raise ValueError(f"the shortcut must be of the shape and type of the map, {wanted}, got {got}")


@torch.fx.wrap
def conv(x: Tensor, weight: Tensor, padding: list[int], groups: int = 1) -> Tensor:
    """1-D or 2-D convolution without bias, by the rank of `weight`, in x's type, also under autocast.

    Gates are computed from float32 statistics, whose range half precision lacks. So the type of the computation is
    neither that of the weights nor autocast's.
    """
    weight = weight.to(x.dtype)
    if torch.jit.is_scripting():
        if weight.dim() == 3:
            return F.conv1d(x, weight, padding=padding, groups=groups)
        return F.conv2d(x, weight, padding=padding, groups=groups)
    few = weight.shape[:2] == (1, 1) and weight.numel() <= TAPS  # one output and one input, so one group
    if few and torch.compiler.is_compiling() and statistics.compiling(x):
        return _by_taps(x, weight, padding)
    with statistics.without_autocast(x):
        if weight.dim() == 3:
            return F.conv1d(x, weight, padding=padding, groups=groups)
        return F.conv2d(x, weight, padding=padding, groups=groups)


def _by_taps(x: Tensor, weight: Tensor, padding: list[int]) -> Tensor:
    """Convolution from one channel to one, as a sum of shifted maps.

    A call of a convolution would keep torch.compile from fusing the operations around it. It would also make Inductor
    copy a contiguous map to channels_last, because statistics of the map lead to a convolution.
    """
    padded = F.pad(x, [width for width in reversed(padding) for _ in range(2)])
    terms = []
    for tap in product(*map(range, weight.shape[2:])):
        window = padded
        for dim, start in enumerate(tap, 2):
            window = window.narrow(dim, start, padded.shape[dim] - weight.shape[dim] + 1)
        terms.append(weight[(0, 0, *tap)] * window)
    return reduce(torch.add, terms)


@torch.fx.wrap
def dense(x: Tensor, weight: Tensor) -> Tensor:
    """1×1 convolution without bias of (B, C, 1, 1), as a matrix product, in x's type, also under autocast."""
    if not torch.jit.is_scripting():  # noqa: SIM102  TorchScript compiles the other operand of an `and`
        if statistics.under_autocast(x):  # torch.compile would round the gradients of the product
            return conv(x, weight, [0, 0])
    return torch.matmul(x.flatten(1), weight.to(x.dtype).flatten(1).t())[:, :, None, None]


@torch.fx.wrap
def resize_like(weight: Tensor, x: Tensor) -> Tensor:
    """A (1, h, w) parameter resized bilinearly to the H, W of `x`, in x's type; unchanged where the sizes agree."""
    size = [x.shape[2], x.shape[3]]
    resized = F.interpolate(statistics.upcast(weight)[None], size=size, mode="bilinear", align_corners=False)[0]
    return resized.to(x.dtype)


@torch.fx.wrap
def batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    batches: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    by_batch: bool,
    momentum: float | None,
    eps: float,
) -> Tensor:
    """Batch normalisation in x's type, which also accepts a batch of one value per channel in training.

    Such a value is its own mean, so that the result is `bias`. The running statistics are then not updated, nor are
    they for an empty batch.

    Args:
        running_mean, running_var: (C,) each, or None to keep no running statistics.
        batches: the number of batches that entered the running statistics; updated with them.
        by_batch: whether to normalise by the statistics of the batch and update the running ones; else by the latter.
        momentum: factor of the update; None for the mean over all batches.
    """
    weight = None if weight is None else weight.to(x.dtype)
    bias = None if bias is None else bias.to(x.dtype)
    if by_batch and (x.numel() == x.shape[1] or x.numel() == 0):
        y = x - x
        y = y if weight is None else y * weight[None, :, None, None]
        return y if bias is None else y + bias[None, :, None, None]
    if running_mean is None or running_var is None:
        return F.batch_norm(x, None, None, weight, bias, True, 0.0, eps)
    if by_batch and batches is not None:
        batches.add_(1)
    if by_batch and momentum is None:
        mean, var = torch.zeros_like(running_mean, dtype=x.dtype), torch.zeros_like(running_var, dtype=x.dtype)
        y = F.batch_norm(x, mean, var, weight, bias, True, 1.0, eps)
        if batches is not None:  # kept as a tensor, so that a GPU is not waited for, and for torch.compile
            share = batches.to(running_mean.dtype).reciprocal()
            running_mean.lerp_(mean.to(running_mean.dtype), share)
            running_var.lerp_(var.to(running_var.dtype), share)
        return y
    # These are copies if the network is stored in another type than it computes in, otherwise the tensors themselves.
    new_mean, new_var = running_mean.to(x.dtype), running_var.to(x.dtype)
    y = F.batch_norm(x, new_mean, new_var, weight, bias, by_batch, 0.0 if momentum is None else momentum, eps)
    if by_batch and running_mean.dtype != x.dtype:
        running_mean.copy_(new_mean)
        running_var.copy_(new_var)
    return y
