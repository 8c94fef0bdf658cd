"""`together.Squeezes` of a map behind a batch norm, from the map before it: see `kernels.normalised`."""

from collections.abc import Callable
from typing import TypeGuard, cast

import torch
from torch import Tensor, nn

from sase_attn import statistics
from sase_attn.kernels import backend, spec
from sase_attn.kernels.normalised import NormalisedMap
from sase_attn.ops import together
from sase_attn.ops.reductions import Reduction

# Statistics of the kernels, of x = scale·u + shift with a scale that is not negative, from those of u.
OF_NORMALISED: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "mean": lambda value, scale, shift: value * scale + shift,
    "maximum": lambda value, scale, shift: value * scale + shift,
    "std": lambda value, scale, shift: value * scale,
    "third": lambda value, scale, shift: value * scale**3,
}


def applies(norm: nn.Module, channel: nn.Module, of_gated: nn.Module, of_input: nn.Module) -> TypeGuard[nn.BatchNorm2d]:
    """Whether these squeezes behind that norm can be had from the map before it."""
    follow = [
        together.follows(op, dims)
        for op, dims in ((channel, together.SPACE), (of_gated, together.CHANNELS), (of_input, together.CHANNELS))
    ]
    return all(follow) and is_known(norm, together.names(channel, together.SPACE))


def is_known(norm: nn.Module, space: list[str]) -> TypeGuard[nn.BatchNorm2d]:
    """Whether statistics over the positions behind that norm follow from those before it."""
    if type(norm) is not nn.BatchNorm2d or norm.weight is None:
        return False
    return set(statistics.parts(space)) <= OF_NORMALISED.keys()


class NormalisedReads:
    """`statistics.Reads` of `norm(u)`, for a norm that `is_known`; running statistics are updated as by the norm.

    Args:
        space: names of statistics over [2, 3], whose parts are all in `OF_NORMALISED`; `channels`, over [1];
            `weighted`, over [1] of the map times a weight.
    """

    def __init__(
        self, u: Tensor, norm: nn.BatchNorm2d, space: list[str], channels: list[str], weighted: list[str]
    ) -> None:
        self._names = channels, weighted
        parts = [statistics.parts(names) for names in (space, channels, weighted)]
        by_batch = norm.training or norm.running_mean is None
        if by_batch:
            parts[0] += ("mean", "std")
        acc = spec.accumulator(u.dtype)
        weight, bias = norm.weight.to(acc), norm.bias.to(acc)
        sign = _sign(weight)
        self._map = NormalisedMap(u, backend.operators(u), statistics.kernel_definition, sign, *parts)
        n = u.shape[2] * u.shape[3]
        of_u = self._map.space
        mean, variance = _of_batch(norm, of_u, n, sign) if by_batch else _running(norm, acc, sign)
        scale = (weight if sign is None else weight * sign) / (variance + norm.eps).sqrt()
        shift = bias - scale * mean
        self._map.normalise(scale, shift)
        of_x = {name: OF_NORMALISED[name](of_u[name], scale, shift)[:, :, None, None] for name in parts[0]}
        self.space = statistics.completed(space, of_x, n)
        """Those over [2, 3], in the order asked for."""
        self._n = u.shape[1]

    def over_channels(self, weight: Tensor | None = None) -> tuple[list[Tensor], list[Tensor]]:
        """As `Reads.over_channels`."""
        plain, weighted = self._map.over_channels(weight)
        names = self._names
        return statistics.completed(names[0], plain, self._n), statistics.completed(names[1], weighted, self._n)

    def gate(self, channel: Tensor, position: Tensor, shortcut: Tensor | None, relu: bool) -> Tensor:
        """As `Reads.gate`."""
        return self._map.gate(channel, position, shortcut, relu)


class NormalisedSqueezes:
    """The squeezes of `norm(u)`, where it `applies`."""

    def __init__(
        self, u: Tensor, norm: nn.BatchNorm2d, channel: nn.Module, of_gated: nn.Module, of_input: nn.Module
    ) -> None:
        self._channel, self._of_gated, self._of_input = (cast(Reduction, op) for op in (channel, of_gated, of_input))
        over, weighted = (together.names(op, together.CHANNELS) for op in (of_input, of_gated))
        self._reads = NormalisedReads(u, norm, together.names(channel, together.SPACE), over, weighted)

    def channel(self) -> Tensor:
        """The channel squeeze, (B, C, 1, 1)."""
        return self._channel.combine(self._reads.space)

    def spatial(self, gate: Tensor) -> tuple[Tensor, Tensor]:
        """The spatial squeezes of x·gate and of x, (B, 1, H, W), for a gate (B, C, 1, 1)."""
        plain, weighted = self._reads.over_channels(gate)
        return self._of_gated.combine(weighted), self._of_input.combine(plain)

    def gated(self, channel: Tensor, position: Tensor, shortcut: Tensor | None, relu: bool, overwrite: bool) -> Tensor:
        """x·(channel + position), plus a shortcut, through a ReLU."""
        return self._reads.gate(channel, position, shortcut, relu)


def _sign(weight: Tensor) -> Tensor | None:
    """1 or -1 for each channel, None where all are 1: not asked for on a GPU, which would have to be waited for."""
    negative = weight.detach() < 0
    if not weight.is_cuda and not negative.any():
        return None
    return torch.where(negative, -1.0, 1.0).to(weight.dtype)


def _of_batch(norm: nn.BatchNorm2d, of_u: dict[str, Tensor], n: int, sign: Tensor | None) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of u·sign over the batch, from those of each sample, and the running ones updated."""
    means, deviations = of_u["mean"], of_u["std"]
    count = len(means) * n
    if count == 1:
        raise ValueError(
            f"Expected more than 1 value per channel when training, got input size {(1, len(norm.weight), 1, 1)}"
        )
    mean = means.mean(0)
    variance = (deviations.square() + (means - mean).square()).mean(0)
    if norm.training and norm.running_mean is not None and norm.running_var is not None:
        with torch.no_grad():
            momentum = norm.momentum
            if norm.num_batches_tracked is not None:
                norm.num_batches_tracked.add_(1)
                momentum = 1 / norm.num_batches_tracked.item() if momentum is None else momentum
            assert momentum is not None
            signed = mean if sign is None else mean * sign
            norm.running_mean.lerp_(signed.to(norm.running_mean.dtype), momentum)
            norm.running_var.lerp_((variance * (count / (count - 1))).to(norm.running_var.dtype), momentum)
    return mean, variance


def _running(norm: nn.BatchNorm2d, acc: torch.dtype, sign: Tensor | None) -> tuple[Tensor, Tensor]:
    assert norm.running_mean is not None and norm.running_var is not None
    mean = norm.running_mean.to(acc)
    return mean if sign is None else mean * sign, norm.running_var.to(acc)
