"""How many channels modules get: asked of them, or seen in a forward pass without data."""

from collections.abc import Mapping

from torch import nn

from sase_attn.insert.kinds import is_convolution
from sase_attn.insert.meta_forward import map_shapes
from sase_attn.insert.squeeze_excite import describe_se


def channels_of(model: nn.Module, modules: Mapping[str, nn.Module]) -> dict[str, int]:
    """Channels of attention modules of `model`, by name.

    Squeeze-and-excitation has them in its layers, others in their attribute `channels`, a convolution whose place
    attention can take in its own. For the rest a copy of the
    network on the meta device is run once at the network's own input size (timm's `pretrained_cfg`), or at 3×224×224.

    Raises:
        ValueError: that pass fails, does not reach a module, or shows that it is no map of (B, C, H, W) to that shape.
    """
    known: dict[str, int] = {}
    for name, module in modules.items():
        description = describe_se(module)
        channels = getattr(module, "channels", None) if description is None else description.channels
        if isinstance(module, nn.Conv2d) and is_convolution(module):
            channels = module.in_channels
        if isinstance(channels, int):
            known[name] = channels
    rest = {name: module for name, module in modules.items() if name not in known}
    return known | (_seen(model, rest) if rest else {})


def _seen(model: nn.Module, modules: Mapping[str, nn.Module]) -> dict[str, int]:
    labels = {name: f"{name} ({type(module).__name__})" for name, module in modules.items()}
    try:
        shapes = map_shapes(model, modules)
    except ValueError as error:
        first = next(iter(labels.values()))
        raise ValueError(f"cannot tell the channels of {first}: it has no attribute `channels`, and {error}") from error
    for name, label in labels.items():
        if name not in shapes:
            raise ValueError(f"cannot tell the channels of {label}: no forward pass reaches it")
        before, after = shapes[name]
        if len(before) != 4 or before != after:
            raise ValueError(
                f"{label} cannot be replaced: it maps {tuple(before)} to {tuple(after)}, attention maps (B, C, H, W) "
                "to the same shape"
            )
    return {name: shapes[name][0][1] for name in modules}
