"""Residual blocks of timm's ResNet for training, with batch norm, attention, shortcut and ReLU as one unit.

A block's class is exchanged for one of these (`block.__class__ = …`), so that parameters, state dict keys, and hooks of
the layers before the last norm stay as they are.
"""

from typing import cast

from timm.models.resnet import BasicBlock, Bottleneck
from torch import Tensor, nn

from sase_attn.fusion import tails
from sase_attn.insert.attached import Attached


class _WithTail(nn.Module):
    """The part that both blocks share: everything after their last convolution."""

    conv1: nn.Module
    conv2: nn.Module
    conv3: nn.Module
    bn1: nn.Module
    bn2: nn.Module
    bn3: nn.Module
    act1: nn.Module
    act2: nn.Module
    act3: nn.Module
    aa: nn.Module
    drop_block: nn.Module

    def _tail(self, x: Tensor, shortcut: Tensor, norm: nn.Module, act: nn.Module) -> Tensor:
        downsample = getattr(self, "downsample", None)
        if downsample is not None:
            shortcut = downsample(shortcut)
        if isinstance(norm, Attached) and norm.scale != 1:  # set after `fuse`, which leaves such a block as it is
            return cast(Tensor, act(norm(x) + shortcut))
        attention = getattr(self, "se", None)
        if isinstance(norm, Attached):
            norm, attention = norm.host, norm.attn
        relu = type(act) is nn.ReLU
        y = tails.tail(cast(nn.Module, attention), x, shortcut, relu, norm)
        return y if relu else cast(Tensor, act(y))


class FusedBottleneck(_WithTail, Bottleneck):
    """timm's `Bottleneck`, with the layers after its last convolution as one unit."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.act1(self.bn1(self.conv1(x)))
        y = self.aa(self.act2(self.drop_block(self.bn2(self.conv2(y)))))
        return self._tail(self.conv3(y), x, self.bn3, self.act3)


class FusedBasicBlock(_WithTail, BasicBlock):
    """timm's `BasicBlock`, with the layers after its last convolution as one unit."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.aa(self.act1(self.drop_block(self.bn1(self.conv1(x)))))
        return self._tail(self.conv2(y), x, self.bn2, self.act2)


_CLASSES: dict[type[nn.Module], tuple[type[nn.Module], str]] = {
    Bottleneck: (FusedBottleneck, "bn3"),
    BasicBlock: (FusedBasicBlock, "bn2"),
}


def fuse_for_training(model: nn.Module) -> int:
    """Give the fused class to every block that supports it; return the number of blocks that have it now."""
    for block in model.modules():
        if type(block) in _CLASSES and _can(block):
            block.__class__ = _CLASSES[type(block)][0]
    return sum(isinstance(block, _WithTail) for block in model.modules())


def unfuse_from_training(model: nn.Module) -> None:
    """Give every fused block its original class."""
    own = {fused: block for block, (fused, _) in _CLASSES.items()}
    for block in model.modules():
        if type(block) in own:
            block.__class__ = own[type(block)]


def _can(block: nn.Module) -> bool:
    """Whether nothing but attention that `tail` supports is between a block's last norm and the shortcut."""
    norm = getattr(block, _CLASSES[type(block)][1])
    attention = getattr(block, "se", None)
    if isinstance(norm, Attached):
        if attention is not None or norm.scale != 1:
            return False
        attention = norm.attn
    return tails.is_known(attention) and getattr(block, "drop_path", None) is None
