"""`fuse`: the residual blocks of a network with each tail as one unit; for inference with batch norm folded."""

import itertools
from typing import TypeVar, cast

from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from torch import Tensor, nn

from sase_attn.fusion import tails
from sase_attn.fusion.folding import folded
from sase_attn.fusion.training import fuse_for_training, unfuse_from_training
from sase_attn.insert.attached import Attached

Network = TypeVar("Network", bound=nn.Module)

# Of timm's residual blocks: the layers before the shortcut is added, and the activation behind it. `drop_block`,
# which is among the first, and `drop_path`, after the attention, do nothing in inference.
_BLOCKS: dict[type[nn.Module], tuple[tuple[str, ...], str]] = {
    Bottleneck: (("conv1", "bn1", "act1", "conv2", "bn2", "act2", "aa", "conv3", "bn3", "se"), "act3"),
    BasicBlock: (("conv1", "bn1", "act1", "aa", "conv2", "bn2", "se"), "act2"),
}


def fuse(model: Network, training: bool = False) -> Network:
    """Run a network in fewer passes over memory, in place: same outputs (to float rounding).

    For inference: in timm's ResNets (`sase_resnet50`, `seresnet50`, `ecaresnet50d`, `attached`, …) every batch norm is
    folded into the convolution before it. A SASE block, the addition of the shortcut and the ReLU read the map three
    times and write it once, as the block alone does, eagerly by `sase_attn.kernels` and inside `torch.compile` by its
    own fusion; timm's SE and ECA modules read it twice. Other attention is followed by an addition and a ReLU in
    place. `unfuse` undoes it.

    A network fused for inference has other parameters and state dict keys, and `train()` raises.

    For training (`training=True`): the last batch norm of a residual block, its attention (a SASE block, or timm's
    `SEModule`, `EffectiveSEModule` or `EcaModule`), the shortcut and the ReLU become one unit, which keeps one map for
    the backward pass, the input of the norm, beside its output, as a block without attention does. Parameters, state
    dict keys and `eval()` stay as they are; gradients are the same. Where it does not apply (`torch.compile`, CUDA
    without `kernels.set_backend("triton")`, squeezes without statistics, other attention, norms other than
    `nn.BatchNorm2d`, drop path) the layers are applied one after the other.

    Hooks of what became part of a unit are not called.

    Args:
        model: a network that contains residual blocks of timm's ResNet; in eval mode for inference.
        training: fuse for training.

    Returns:
        The network itself.

    Raises:
        ValueError: it has no such block (for training: none with such attention), or is in train mode without
            `training`.
    """
    if training:
        if any(isinstance(module, _Fused) for module in model.modules()):
            raise ValueError("the network is fused for inference: call sase_attn.unfuse(model) first")
        if not fuse_for_training(model):
            raise ValueError(
                f"{type(model).__name__} has no residual block of timm's ResNet with attention that joins its tail in "
                "training (SASEBlock, or timm's SEModule, EffectiveSEModule or EcaModule; no drop path)"
            )
        return model
    unfuse_from_training(model)
    modules = model.named_modules(remove_duplicate=False)
    blocks = [(name, module) for name, module in modules if type(module) in _BLOCKS]
    if not blocks:
        if any(isinstance(module, _Fused) for module in model.modules()):
            return model
        raise ValueError(f"{type(model).__name__} has no residual block of timm's ResNet (BasicBlock or Bottleneck)")
    if any(module.training for module in model.modules()):
        raise ValueError("fuse() folds batch norm for inference: call model.eval() first")
    fused = {id(block): FusedBlock(block) for block in dict.fromkeys(block for _, block in blocks)}
    for name, block in blocks:
        model.set_submodule(name, fused[id(block)])
    for module in list(model.modules()):
        if isinstance(module, ResNet):
            stem = _Folded(folded([module.conv1, module.bn1]), module.conv1)
            module.set_submodule("conv1", stem)
            module.set_submodule("bn1", _Folded(nn.Identity(), module.bn1))
    return model


def unfuse(model: Network) -> Network:
    """Undo `fuse`, in place: the layers from before, with their parameters as they were, where the network is now.

    Returns:
        The network itself, which may be one that was never fused.
    """
    unfuse_from_training(model)
    for name, module in list(model.named_modules(remove_duplicate=False)):
        if isinstance(module, _Fused):
            parameter = next(itertools.chain(module.parameters(), model.parameters()), None)
            original = module.original
            if parameter is not None:
                original = original.to(parameter.device, parameter.dtype)
            model.set_submodule(name, original)
    return model


class _Fused(nn.Module):
    """What took the place of a module, which it keeps outside its own parameters and modules."""

    def __init__(self, original: nn.Module) -> None:
        super().__init__()
        self._original = (original,)
        self.training = False

    @property
    def original(self) -> nn.Module:
        """The module from before."""
        return self._original[0]

    def train(self, mode: bool = True) -> "_Fused":
        if mode:
            raise RuntimeError("this network was fused for inference: call sase_attn.unfuse(model) before training")
        return super().train(False)


class _Folded(_Fused):
    """Layers in the place of one."""

    def __init__(self, layers: nn.Module, original: nn.Module) -> None:
        super().__init__(original)
        self.layers = layers

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.layers(x))


class _Scale(nn.Module):
    """x·scale."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


class FusedBlock(_Fused):
    """A residual block of timm's ResNet, act(attention(layers(x)) + shortcut), for inference."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__(block)
        names, act = _BLOCKS[type(block)]
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

    def forward(self, x: Tensor) -> Tensor:
        shortcut = self.shortcut(x)
        y = self.layers(x)
        if self.attention is None:
            y += shortcut
            return cast(Tensor, self.act(y))
        y = tails.tail(self.attention, y, shortcut, self.relu, overwrite=True)
        return y if self.relu else cast(Tensor, self.act(y))
