"""One description for all classes of squeeze-and-excitation modules, and a registry to which you can add yours.

A squeeze-and-excitation module averages each channel over all positions, maps the (B, C, 1, 1) result through a few
layers, and multiplies its input by their output. The classes differ only in the names of those layers.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize


@dataclass(frozen=True)
class SqueezeExcitation:
    """The parts of a squeeze-and-excitation module.

    Attributes:
        channels: C, the channels of its input and output.
        layers: its excitation, by the module's own attribute names, in the order of application, with the gate. Each
            layer works on every position of (B, ·, H, W) separately: 1×1 convolutions, norms, activations.
        add_maxpool: whether the squeeze is (mean + maximum)/2 instead of the mean, an option of timm.
    """

    channels: int
    layers: dict[str, nn.Module]
    add_maxpool: bool = False


Adapter = Callable[[nn.Module], SqueezeExcitation]


def describe_se(module: nn.Module) -> SqueezeExcitation | None:
    """The parts of `module`; None if its class is no known squeeze-and-excitation (see `register_se`).

    The layers are the module's own, not copies. A subclass counts where it inherits `forward`.
    """
    own = type(module)
    for cls in own.__mro__:
        if issubclass(cls, nn.Module) and own.forward is cls.forward:
            adapter = _REGISTERED.get(cls) or _KNOWN.get(f"{cls.__module__}.{cls.__qualname__}")
            if adapter is not None:
                return adapter(module)
    return None


def register_se(cls: type[nn.Module], adapter: Adapter) -> None:
    """Make a class of your own known: `adapter(module)` returns its `SqueezeExcitation`.

    A class that keeps `nn.Linear` layers passes them through `pointwise`:
    `register_se(SELayer, lambda m: SqueezeExcitation(m.fc[0].in_features, {"fc": pointwise(m.fc)}))`.

    Raises:
        TypeError: `cls` is no class of modules.
        ValueError: the class is already known.
    """
    if not (isinstance(cls, type) and issubclass(cls, nn.Module)):
        raise TypeError(f"register_se wants a class of modules, got {cls!r}")
    if cls in _REGISTERED or f"{cls.__module__}.{cls.__qualname__}" in _KNOWN:
        raise ValueError(f"{cls.__qualname__} is a known squeeze-and-excitation already")
    _REGISTERED[cls] = adapter


def known_se() -> list[str]:
    """Full names of the squeeze-and-excitation classes that are known."""
    return [*_KNOWN, *(f"{cls.__module__}.{cls.__qualname__}" for cls in _REGISTERED)]


class PointwiseLinear(nn.Linear):
    """Applies a linear layer to every position of (B, C, H, W), with shared parameters.

    Raises:
        TypeError: the layer is not described by its weight and bias: its class overrides `forward`, or it has a
            parametrization or hooks.
    """

    def __init__(self, linear: nn.Linear) -> None:
        nn.Module.__init__(self)
        hooks = linear._forward_pre_hooks or linear._forward_hooks
        if hooks or parametrize.is_parametrized(linear) or type(linear).forward is not nn.Linear.forward:
            raise TypeError(
                f"wanted a plain nn.Linear to apply to maps, got {type(linear).__name__} with a forward, a "
                "parametrization or hooks of its own; remove them, or let your adapter give a 1×1 convolution"
            )
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias
        self.training = linear.training

    def forward(self, x: Tensor) -> Tensor:
        # Computed by `linear`, not by a convolution, so that quantisation of linear layers works on the weight.
        return F.linear(x.permute(0, 2, 3, 1), self.weight, self.bias).permute(0, 3, 1, 2)


def pointwise(module: nn.Module) -> nn.Module:
    """`module` for maps (B, C, H, W): linear layers, also those in an `nn.Sequential`, then work on every position.

    Names and parameters do not change, nor do the keys of the state dict. `nn.Flatten` and `nn.Unflatten` become
    identities.

    Raises:
        TypeError: a linear layer is not described by its weight and bias: its class overrides `forward`, or it has a
            parametrization or hooks.
    """
    if isinstance(module, nn.Linear):
        return PointwiseLinear(module)
    if isinstance(module, nn.Flatten | nn.Unflatten):
        return nn.Identity()
    if type(module) is nn.Sequential:
        converted = nn.Sequential()
        for name, child in module.named_children():
            converted.add_module(name, pointwise(child))
        return converted
    return module


def _layers(names: Iterable[str]) -> Adapter:
    """An adapter for a class that applies the attributes `names` in that order; an absent one is skipped."""
    names = tuple(names)

    def adapter(module: nn.Module) -> SqueezeExcitation:
        layers = {name: getattr(module, name) for name in names if getattr(module, name, None) is not None}
        first = next(iter(layers.values()))
        return SqueezeExcitation(first.in_channels, layers, add_maxpool=getattr(module, "add_maxpool", False))

    return adapter


def _reduce_expand(module: Any) -> SqueezeExcitation:
    """The adapter for a class that calls ReLU and sigmoid as functions."""
    layers = {"reduce": module.reduce, "relu": nn.ReLU(), "expand": module.expand, "sigmoid": nn.Sigmoid()}
    return SqueezeExcitation(module.reduce.in_channels, layers)


def _children(module: nn.Module) -> SqueezeExcitation:
    """The adapter for a class whose children are its excitation, in that order."""
    layers = dict(module.named_children())
    return SqueezeExcitation(getattr(module, "channels"), layers, getattr(module, "add_maxpool"))  # noqa: B009


# Classes are named in full, so that none has to be imported to be recognised.
_KNOWN: dict[str, Adapter] = {
    "timm.layers.squeeze_excite.SEModule": _layers(("fc1", "bn", "act", "fc2", "gate")),
    "timm.layers.squeeze_excite.EffectiveSEModule": _layers(("fc", "gate")),
    "timm.models.hgnet.EseModule": _layers(("conv", "sigmoid")),
    "timm.models._efficientnet_blocks.SqueezeExcite": _layers(("conv_reduce", "act1", "conv_expand", "gate")),
    "timm.models.senet.SEModule": _layers(("fc1", "relu", "fc2", "sigmoid")),
    "segmentation_models_pytorch.encoders._senet.SEModule": _layers(("fc1", "relu", "fc2", "sigmoid")),
    "segmentation_models_pytorch.encoders.mobileone.SEBlock": _reduce_expand,
    "pretrainedmodels.models.senet.SEModule": _layers(("fc1", "relu", "fc2", "sigmoid")),
    "ultralytics.nn.modules.conv.ChannelAttention": _layers(("fc", "act")),
    "torchvision.ops.misc.SqueezeExcitation": _layers(("fc1", "activation", "fc2", "scale_activation")),
    "sase_attn.attentions.se.SE": _layers(("fc1", "bn", "act", "fc2", "gate")),
    "sase_attn.tiling.block.TiledSE": _children,
}
_REGISTERED: dict[type[nn.Module], Adapter] = {}
