"""Batch norm folded into the convolutions before it, by torch's own `fuse_conv_bn_weights`."""

import copy
from collections.abc import Iterable
from typing import Any

from torch import nn
from torch.nn.utils import parametrize
from torch.nn.utils.fusion import fuse_conv_bn_weights

# Classes are named in full, so that none has to be imported to be recognised.
_NORMS = (
    "torch.nn.modules.batchnorm.BatchNorm2d",
    "torch.nn.modules.batchnorm.SyncBatchNorm",
    "torchvision.ops.misc.FrozenBatchNorm2d",
)


def folded(layers: Iterable[nn.Module | None]) -> nn.Sequential:
    """The layers as one sequence, with each batch norm folded into the convolution just before it.

    Frozen and synchronised batch norms are folded too. A convolution with a folded norm is a copy; identities are left
    out, and all other layers are the given ones. A convolution that computes its weight anew in each call, as one with
    a spectral norm or a pruning mask does, keeps the norm behind it.
    """
    result: list[nn.Module] = []
    for layer in _flat(layers):
        before = result[-1] if result else None
        if isinstance(before, nn.Conv2d) and _uses_its_weight(before) and is_norm(layer):
            result[-1] = _with_norm(before, layer)
        else:
            result.append(layer)
    return nn.Sequential(*result)


def is_norm(layer: nn.Module) -> bool:
    """Whether a layer is a batch norm that scales and shifts its channels by constants in inference."""
    cls = type(layer)
    return f"{cls.__module__}.{cls.__qualname__}" in _NORMS and getattr(layer, "running_var", None) is not None


def _uses_its_weight(conv: nn.Conv2d) -> bool:
    """Whether a convolution computes with its weight as it is, and not with what a class or a hook makes of it."""
    computed = parametrize.is_parametrized(conv) or bool(conv._forward_pre_hooks)
    return type(conv).forward is nn.Conv2d.forward and not computed


def _with_norm(conv: nn.Conv2d, norm: Any) -> nn.Conv2d:
    result = copy.deepcopy(conv)
    statistics = norm.running_mean, norm.running_var, norm.eps
    result.weight, result.bias = fuse_conv_bn_weights(conv.weight, conv.bias, *statistics, norm.weight, norm.bias)
    return result


def _flat(layers: Iterable[nn.Module | None]) -> Iterable[nn.Module]:
    for layer in layers:
        if type(layer) is nn.Sequential:
            yield from _flat(layer)
        elif layer is not None and not isinstance(layer, nn.Identity):
            yield layer
