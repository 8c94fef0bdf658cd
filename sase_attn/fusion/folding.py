"""Batch norm folded into the convolutions before it, by torch's own `fuse_conv_bn_eval`."""

from collections.abc import Iterable

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def folded(layers: Iterable[nn.Module | None]) -> nn.Sequential:
    """Copies of layers that are applied one after the other, without those that do nothing in inference.

    A batch norm right behind a convolution becomes part of it; all else is kept as it is.
    """
    result: list[nn.Module] = []
    for layer in _flat(layers):
        before = result[-1] if result else None
        if isinstance(before, nn.Conv2d) and type(layer) is nn.BatchNorm2d and layer.running_var is not None:
            result[-1] = fuse_conv_bn_eval(before, layer)
        else:
            result.append(layer)
    return nn.Sequential(*result)


def _flat(layers: Iterable[nn.Module | None]) -> Iterable[nn.Module]:
    for layer in layers:
        if type(layer) is nn.Sequential:
            yield from _flat(layer)
        elif layer is not None and not isinstance(layer, nn.Identity):
            yield layer
