"""`virtual_step`: the step that SGD would take, applied to the weights without changing the optimizer's state."""

from collections.abc import Sequence

import torch
from torch import Tensor

Settings = dict[Tensor, dict[str, float]]


def check_sgd(optimizer: torch.optim.Optimizer) -> None:
    """Raise ValueError if the optimizer uses more than momentum and weight decay, all that `virtual_step` computes."""
    for group in optimizer.param_groups:
        for key in ("nesterov", "dampening", "maximize"):
            if group.get(key):
                raise ValueError(f"the second order needs SGD with momentum alone, got {key}={group[key]}")


def sgd_settings(optimizer: torch.optim.Optimizer, names: Sequence[str], weights: Sequence[Tensor]) -> Settings:
    """The parameter group of each weight. Do not keep it: loading an optimizer's state replaces groups.

    Raises:
        ValueError: the optimizer does not hold a weight; the message names it.
    """
    settings = {p: group for group in optimizer.param_groups for p in group["params"]}
    if missing := [name for name, weight in zip(names, weights, strict=True) if weight not in settings]:
        raise ValueError(f"the optimizer does not have {', '.join(missing[:3])}")
    return settings


def virtual_step(
    optimizer: torch.optim.Optimizer, settings: Settings, weights: Sequence[Tensor], gradients: Sequence[Tensor]
) -> None:
    """Move the weights to w' = w − ξ(μ·buf + g + λw).

    ξ is the learning rate, μ the momentum, buf the optimizer's momentum buffer (0 before its first step), λ the weight
    decay.
    """
    with torch.no_grad():
        for weight, gradient in zip(weights, gradients, strict=True):
            group = settings[weight]
            step = gradient + group["weight_decay"] * weight
            buffer = optimizer.state.get(weight, {}).get("momentum_buffer")
            if buffer is not None:
                step = step + group["momentum"] * buffer
            weight.sub_(step, alpha=float(group["lr"]))
