"""The number of channels that modules work on: read from them, or seen in a forward pass without data."""

import warnings
from collections.abc import Mapping

import torch
from torch import nn

from sase_attn.insert.kinds import is_convolution
from sase_attn.insert.meta_forward import map_shapes, meta_image
from sase_attn.insert.squeeze_excite import describe_se


def channels_of(model: nn.Module, modules: Mapping[str, nn.Module]) -> dict[str, int]:
    """Channels of attention modules of `model`, by name.

    They are read from the layers of a squeeze-and-excitation module, from an attribute `channels`, or from a
    convolution that attention can replace. For all other modules, a copy of the network on the meta device is run once,
    at its own input size (timm's `pretrained_cfg`) or at 3×224×224; and once at a larger one, which shows the axis of
    the channels.

    Returns:
        The channels of all modules, except those that need the pass and are not reached by it.

    Raises:
        ValueError: the pass fails, reaches none of the modules, or shows one whose input and output are not maps of the
            same shape (B, C, H, W), such as a map with its channels last.
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
    shapes = _seen(model, rest, "channels", "`channels`", bool(known)) if rest else {}
    for name, (before, after) in shapes.items():
        label = f"{name} ({type(rest[name]).__name__})"
        if len(before) != 4 or before != after:
            raise ValueError(
                f"{label} cannot be replaced: it maps {tuple(before)} to {tuple(after)}, attention maps (B, C, H, W) "
                "to the same shape"
            )
    return known | {name: before[1] for name, (before, _) in shapes.items()}


def output_channels_of(model: nn.Module, modules: Mapping[str, nn.Module]) -> dict[str, int]:
    """Channels of the outputs of modules, by name.

    They are read from norms and convolutions; other modules with parameters are seen in a forward pass without data.

    Returns:
        The channels of all modules, except those that need the pass and are not reached by it.

    Raises:
        ValueError: a module is none of these; the pass fails or reaches none of the modules; or an output is no map
            (B, C, H, W), such as a map with its channels last.
    """
    known: dict[str, int] = {}
    rest: dict[str, nn.Module] = {}
    for name, module in modules.items():
        said = (getattr(module, attribute, None) for attribute in ("num_features", "out_channels", "num_channels"))
        channels = next((number for number in said if isinstance(number, int)), None)
        if channels is not None:
            known[name] = channels
        elif next(module.parameters(), None) is not None:
            rest[name] = module
        else:
            raise _no_output_channels(name, module)
    shapes = _seen(model, rest, "output channels", "`out_channels`", bool(known)) if rest else {}
    for name, (_, after) in shapes.items():
        if len(after) != 4:
            raise _no_output_channels(name, modules[name])
    return known | {name: after[1] for name, (_, after) in shapes.items()}


def _no_output_channels(name: str, module: nn.Module) -> ValueError:
    kind = type(module).__name__
    return ValueError(f"cannot tell the output channels of {name} ({kind}); attach after a norm or a convolution")


def _seen(
    model: nn.Module, modules: Mapping[str, nn.Module], what: str, attribute: str, may_be_empty: bool
) -> dict[str, tuple[torch.Size, torch.Size]]:
    name, module = next(iter(modules.items()))
    first = f"cannot tell the {what} of {name} ({type(module).__name__})"
    try:
        shapes = map_shapes(model, modules)
    except ValueError as error:
        raise ValueError(f"{first}: it has no attribute {attribute}, and {error}") from error
    if not shapes and not may_be_empty:
        raise ValueError(f"{first}: no forward pass reaches it")
    _check_axes(model, shapes)
    return shapes


def _check_axes(model: nn.Module, shapes: Mapping[str, tuple[torch.Size, torch.Size]]) -> None:
    """Raise ValueError if an output is (B, H, W, C): if its second axis follows the size of the image.

    A network that accepts one size only is asked for its `output_fmt` of timm instead.
    """
    height, width = meta_image(model).shape[2:]
    try:
        larger = map_shapes(model, shapes, (height + 32, width + 64))
    except ValueError:
        larger = {}
    format_ = getattr(model, "output_fmt", "")
    last = str(getattr(format_, "value", format_)) == "NHWC"
    for name, (_, after) in shapes.items():
        behind = larger[name][1] if name in larger else None
        moves = last if behind is None else len(behind) == 4 and behind[1] != after[1]
        if len(after) == 4 and moves:
            kind = type(model.get_submodule(name)).__name__
            raise ValueError(
                f"{name} ({kind}) returns {tuple(after)}, a map with its channels last; attention takes (B, C, H, W)"
            )


def warn_of_unreached(modules: Mapping[str, nn.Module], channels: Mapping[str, int]) -> None:
    """Warn, at the line two calls up, of modules whose channels are unknown because no forward pass reaches them."""
    if unreached := [f"{name} ({type(m).__name__})" for name, m in modules.items() if name not in channels]:
        shown = ", ".join(unreached[:8]) + (f" and {len(unreached) - 8} more" if len(unreached) > 8 else "")
        warnings.warn(f"left as they are, as no forward pass reaches them: {shown}", stacklevel=3)
