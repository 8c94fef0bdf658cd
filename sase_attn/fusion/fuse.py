"""`fuse` makes the tail of each residual block one unit; for inference, it also folds batch norms into convolutions."""

import itertools
import warnings
from typing import TypeVar

from timm.models import FeatureDictNet
from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from torch import nn

from sase_attn.fusion.folding import is_norm
from sase_attn.fusion.fused import FoldedNorm, Fused, FusedBlock, FusedStem
from sase_attn.fusion.training import fuse_for_training, unfuse_from_training

Network = TypeVar("Network", bound=nn.Module)

# For each of timm's residual blocks, the layers before the shortcut is added, and the activation after it. `drop_block`
# among these layers, and `drop_path` after the attention, do nothing in inference.
_BLOCKS: dict[type[nn.Module], tuple[tuple[str, ...], str]] = {
    Bottleneck: (("conv1", "bn1", "act1", "conv2", "bn2", "act2", "aa", "conv3", "bn3", "se"), "act3"),
    BasicBlock: (("conv1", "bn1", "act1", "aa", "conv2", "bn2", "se"), "act2"),
}


def fuse(model: Network, training: bool = False) -> Network:
    """Change a network, in place, to run in fewer passes over memory, with the same outputs up to float rounding.

    For inference: in timm's ResNets (`sase_resnet50`, `seresnet50`, `ecaresnet50d`, `attached`, …) every batch norm is
    folded into the convolution before it. A SASE block, the addition of the shortcut and the ReLU read the map three
    times and write it once, as the block alone does, eagerly by `sase_attn.kernels` and inside `torch.compile` by its
    own fusion; timm's SE and ECA modules read it twice. Other attention is followed by an addition and a ReLU in
    place. `unfuse` undoes it.

    A network fused for inference has other parameters and state dict keys, and computes in eval mode only: called in
    train mode it raises RuntimeError. It can be scripted and traced.

    For training (`training=True`): the last batch norm of a residual block, its attention (a SASE block, or timm's
    `SEModule`, `EffectiveSEModule` or `EcaModule`), the shortcut and the ReLU become one unit, which keeps one map for
    the backward pass, the input of the norm, beside its output, as a block without attention does. Parameters, state
    dict keys and `eval()` stay as they are; gradients are the same. Where it does not apply (`torch.compile`, CUDA
    without `kernels.set_backend("triton")`, squeezes without statistics, other attention, a factor behind an
    attached one, norms other than `nn.BatchNorm2d`, drop path) the layers are applied one after the other.

    Hooks of layers that became part of a unit are not called.

    Args:
        model: a network that contains residual blocks of timm's ResNet; in eval mode for inference.
        training: fuse for training.

    Returns:
        The network itself.

    Raises:
        ValueError: the network has no such block (for training: none with such attention), is in train mode without
            `training`, or is fused for inference already and `training` is set.
    """
    if training:
        if any(isinstance(module, Fused) for module in model.modules()):
            raise ValueError("the network is fused for inference: call sase_attn.unfuse(model) first")
        if not fuse_for_training(model):
            raise ValueError(
                f"{type(model).__name__} has no residual block of timm's ResNet with attention that joins its tail in "
                "training (SASEBlock, or timm's SEModule, EffectiveSEModule or EcaModule; no drop path, no factor "
                "behind it)"
            )
        return model
    unfuse_from_training(model)
    modules = model.named_modules(remove_duplicate=False)
    blocks = [(name, module) for name, module in modules if type(module) in _BLOCKS]
    if not blocks:
        if any(isinstance(module, Fused) for module in model.modules()):
            return model
        raise ValueError(f"{type(model).__name__} has no residual block of timm's ResNet (BasicBlock or Bottleneck)")
    if any(module.training for module in model.modules()):
        raise ValueError("fuse() folds batch norm for inference: call model.eval() first")
    unique = dict.fromkeys(block for _, block in blocks)
    fused = {id(block): FusedBlock(block, *_BLOCKS[type(block)]) for block in unique}
    for name, block in blocks:
        model.set_submodule(name, fused[id(block)])
    for module in list(model.modules()):
        if _has_stem(module):
            conv, norm = module.get_submodule("conv1"), module.get_submodule("bn1")
            module.set_submodule("conv1", FusedStem(conv, norm))
            module.set_submodule("bn1", FoldedNorm(norm))
    return model


def unfuse(model: Network) -> Network:
    """Undo `fuse`, in place: restore the original layers and parameters, on the device where the network is now.

    Returns:
        The network itself, which may be one that was never fused.

    Warns:
        UserWarning: parameters of fused layers were changed, by training or `load_state_dict`; the changes are lost.
    """
    unfuse_from_training(model)
    fused = {name: m for name, m in model.named_modules(remove_duplicate=False) if isinstance(m, Fused)}
    if edited := [name for name, module in fused.items() if module.is_edited()]:
        shown = ", ".join(edited[:8]) + (f" and {len(edited) - 8} more" if len(edited) > 8 else "")
        warnings.warn(
            f"what was changed since fuse() in {shown} is lost: the layers from before come back with their weights",
            stacklevel=2,
        )
    for name, module in fused.items():
        parameter = next(itertools.chain(module.parameters(), model.parameters()), None)
        original = module.original
        if parameter is not None:
            original = original.to(parameter.device, parameter.dtype)
        model.set_submodule(name, original.train(module.training))
    return model


def _has_stem(module: nn.Module) -> bool:
    """Whether a module applies a convolution `conv1`, then a norm `bn1`, and nothing else uses the map in between."""
    layers = dict(module.named_children())
    if not isinstance(module, ResNet | FeatureDictNet) or not {"conv1", "bn1"} <= layers.keys():
        return False
    conv, norm = layers["conv1"], layers["bn1"]
    last = list(conv.modules())[-1]
    if "conv1" in getattr(module, "return_layers", ()) or conv._forward_hooks or norm._forward_pre_hooks:
        return False
    return isinstance(last, nn.Conv2d) and is_norm(norm)
