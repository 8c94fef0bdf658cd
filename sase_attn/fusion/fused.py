"""The modules that replace layers in a network that is fused for inference."""

from collections.abc import Sequence
from itertools import chain
from typing import cast

import torch
from torch import Tensor, nn

from sase_attn.fusion import tails
from sase_attn.fusion.folding import folded
from sase_attn.insert.attached import Attached


class Fused(nn.Module):
    """Replaces a module, and keeps the original without registering it as a submodule.

    It computes in eval mode only. Setting train mode is no error, because tools that inspect a network set both modes.
    """

    __jit_unused_properties__ = ["original"]

    def __init__(self, original: nn.Module) -> None:
        super().__init__()
        self._original = (original,)
        self.training = False

    @property
    def original(self) -> nn.Module:
        """The module that this one replaces."""
        return self._original[0]

    def made_again(self) -> "Fused":
        """A new instance, made from the original modules."""
        return type(self)(self.original)

    def is_edited(self) -> bool:
        """Whether parameters or buffers differ by more than rounding from those that the original modules lead to."""
        wanted, found = (dict(chain(m.named_parameters(), m.named_buffers())) for m in (self.made_again(), self))
        return wanted.keys() != found.keys() or any(not _is_same(wanted[name], found[name]) for name in found)

    def check_mode(self, x: Tensor) -> None:
        """Raise RuntimeError if the module is called in train mode."""
        if self.training and isinstance(x, Tensor):
            raise RuntimeError("this network was fused for inference: call sase_attn.unfuse(model) before training")


class FusedStem(Fused):
    """Replaces a convolution, or several layers, by the same with the following norm folded in."""

    def __init__(self, original: nn.Module, norm: nn.Module) -> None:
        super().__init__(original)
        self._norm = (norm,)
        self.layers = folded([original, norm])

    def made_again(self) -> "FusedStem":
        return FusedStem(self.original, *self._norm)

    def forward(self, x: Tensor) -> Tensor:
        self.check_mode(x)
        y: Tensor = self.layers(x)
        return y


class FoldedNorm(Fused):
    """Replaces a norm that became part of the convolution before it; returns its input."""

    def forward(self, x: Tensor) -> Tensor:
        return x


class FusedBlock(Fused):
    """A residual block of timm's ResNet, act(attention(layers(x)) + shortcut), for inference.

    Args:
        block: the block of timm.
        names: names of its layers before the shortcut is added, in order; a layer may be None.
        act: the name of the activation after the shortcut.
    """

    def __init__(self, block: nn.Module, names: Sequence[str], act: str) -> None:
        super().__init__(block)
        self._names = (tuple(names), act)
        layers: list[nn.Module] = []
        for layer in (getattr(block, name) for name in names):
            if isinstance(layer, Attached):
                layers += [layer.host, layer.attn] + [_Scale(layer.scale)] * (layer.scale != 1)
            elif layer is not None:
                layers.append(layer)
        self.attention = layers.pop() if tails.is_known(layers[-1]) else None
        self.layers = folded(layers)
        self.shortcut = folded([getattr(block, "downsample")])  # noqa: B009  mypy takes attributes for tensors
        self.act = block.get_submodule(act)
        self.relu = type(self.act) is nn.ReLU

    def made_again(self) -> "FusedBlock":
        return FusedBlock(self.original, *self._names)

    def forward(self, x: Tensor) -> Tensor:
        self.check_mode(x)
        shortcut = self.shortcut(x)
        y = self.layers(x)
        if self.attention is None:
            y += shortcut
            y = self.act(y)
            return y
        if torch.jit.is_scripting():
            y = self.act(self.attention(y) + shortcut)
            return y
        return self.tail(y, shortcut)

    @torch.jit.unused
    def tail(self, y: Tensor, shortcut: Tensor) -> Tensor:
        """Apply the attention, add the shortcut, and apply the activation."""
        assert self.attention is not None
        y = tails.tail(self.attention, y, shortcut, self.relu, overwrite=True)
        return y if self.relu else cast(Tensor, self.act(y))


class _Scale(nn.Module):
    """Multiplies its input by `scale`."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


def _is_same(wanted: Tensor, found: Tensor) -> bool:
    """Whether two tensors are equal up to rounding; the network may have been in half precision in the meantime."""
    if wanted is found or found.is_meta:
        return True
    if wanted.shape != found.shape:
        return False
    wanted = wanted.to(found.device)
    ways = (found.dtype, torch.float32, torch.float16, torch.bfloat16)
    return any(torch.allclose(wanted.to(way).to(found.dtype), found, rtol=1e-5, equal_nan=True) for way in ways)
