"""Small networks whose weights are nowhere the zeros and ones that hide errors, with activations of order one."""

from typing import Any

import timm
import torch
from torch import nn


def moved(model: nn.Module, by: float = 1.0, seed: int = 0, size: int = 64) -> nn.Module:
    """`model` in eval mode with noise on every weight, its norms' statistics those of a random image batch."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_(noise * by * (0.2 if parameter.ndim == 1 else 0.02))
        norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.momentum = 1.0
        model.train()(torch.randn(4, 3, size, size, generator=generator))
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
    return model.eval()


def network(name: str, **args: Any) -> nn.Module:
    """A timm network, `moved`, always the same one."""
    torch.manual_seed(0)
    return moved(timm.create_model(name, **args))
