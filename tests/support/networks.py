"""Small networks without weights of 0 or 1, which could hide errors, and with activations of order one."""

from typing import Any

import timm
import torch
from torch import nn


def moved(model: nn.Module, by: float = 1.0, seed: int = 0, size: int = 64) -> nn.Module:
    """`model` in eval mode, with noise added to every weight, and with norm statistics of a random batch of images."""
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
    """A network of timm, `moved`; the same at each call."""
    torch.manual_seed(0)
    return moved(timm.create_model(name, **args))
