"""A batch norm as a scale and a shift per channel, from statistics of each sample, without a pass of its own."""

from typing import TypeGuard

import torch
from torch import Tensor, nn

from sase_attn.statistics import STATISTICS


def is_foldable(norm: nn.Module, positions: list[str]) -> TypeGuard[nn.BatchNorm2d]:
    """Whether a norm's output has statistics over the positions that follow from those of its input."""
    if type(norm) is not nn.BatchNorm2d or norm.weight is None or norm.bias is None:
        return False
    return all(STATISTICS[part].rescale is not None for name in positions for part in STATISTICS[name].needs)


def uses_batch(norm: nn.BatchNorm2d) -> bool:
    """Whether a norm now normalises by the statistics of the batch instead of its running ones."""
    return norm.training or norm.running_mean is None


def sign_of(weight: Tensor) -> Tensor | None:
    """The sign of each channel's weight, 1 or -1; None if all are 1, except on a GPU, which is not waited for."""
    negative = weight.detach() < 0
    if not weight.is_cuda and not negative.any():
        return None
    return torch.where(negative, -1.0, 1.0).to(weight.dtype)


def scale_and_shift(
    norm: nn.BatchNorm2d, sign: Tensor | None, of_samples: dict[str, Tensor], n: int, acc: torch.dtype
) -> tuple[Tensor, Tensor]:
    """The scale ≥ 0 and the shift, (C,) each, that a norm applies to u·sign; updates its running statistics.

    Args:
        norm: a batch norm with weight and bias.
        sign: the sign of its weight, see `sign_of`.
        of_samples: "mean" and "biased_std" of u·sign over the positions, (B, C), where the norm `uses_batch`.
        n: the number of positions.
        acc: the type to compute in.

    Raises:
        ValueError: the batch has one value per channel, as `nn.BatchNorm2d` raises it.
    """
    weight, bias = norm.weight.to(acc), norm.bias.to(acc)
    if uses_batch(norm):
        mean, variance = _of_batch(norm, of_samples, n, sign)
    else:
        assert norm.running_mean is not None and norm.running_var is not None
        mean, variance = norm.running_mean.to(acc), norm.running_var.to(acc)
        mean = mean if sign is None else mean * sign
    scale = (weight if sign is None else weight * sign) / (variance + norm.eps).sqrt()
    return scale, bias - scale * mean


def _of_batch(norm: nn.BatchNorm2d, of: dict[str, Tensor], n: int, sign: Tensor | None) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of u·sign over the batch, from those of each sample; updates the running statistics."""
    means, deviations = of["mean"], of["biased_std"]
    count = len(means) * n
    if count == 1:
        raise ValueError(
            f"Expected more than 1 value per channel when training, got input size {(1, len(norm.weight), 1, 1)}"
        )
    mean = means.mean(0)
    variance = (deviations.square() + (means - mean).square()).mean(0)
    kept = norm.training and norm.track_running_stats
    if kept and norm.running_mean is not None and norm.running_var is not None:
        with torch.no_grad():
            momentum = norm.momentum or 0.0
            if norm.num_batches_tracked is not None:
                norm.num_batches_tracked.add_(1)
                momentum = 1 / norm.num_batches_tracked.item() if norm.momentum is None else momentum
            signed = mean if sign is None else mean * sign
            norm.running_mean.lerp_(signed.to(norm.running_mean.dtype), momentum)
            norm.running_var.lerp_((variance * (count / (count - 1))).to(norm.running_var.dtype), momentum)
    return mean, variance
