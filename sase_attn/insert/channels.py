"""How many channels modules get: asked of them, or seen in a forward pass without data."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from sase_attn.insert.adapters import describe_se


def channels_of(model: nn.Module, modules: Mapping[str, nn.Module]) -> dict[str, int]:
    """Channels of attention modules of `model`, by name.

    Squeeze-and-excitation tells by its layers, others by their attribute `channels`; where one does not, a copy of the
    network on the meta device is run once at the network's own input size (timm's `pretrained_cfg`), or at 3×224×224.

    Raises:
        ValueError: that pass fails, does not reach a module, or shows that it is no map of (B, C, H, W) to that shape.
    """
    known: dict[str, int] = {}
    for name, module in modules.items():
        description = describe_se(module)
        channels = getattr(module, "channels", None) if description is None else description.channels
        if isinstance(channels, int):
            known[name] = channels
    rest = {name: module for name, module in modules.items() if name not in known}
    return known | (_seen(model, rest) if rest else {})


def _seen(model: nn.Module, modules: Mapping[str, nn.Module]) -> dict[str, int]:
    memo: dict[int, Any] = {}
    for tensor in [*model.parameters(), *model.buffers()]:
        empty = torch.empty_like(tensor, device="meta")
        memo[id(tensor)] = nn.Parameter(empty) if isinstance(tensor, nn.Parameter) else empty
    twin = copy.deepcopy(model, memo).eval()
    shapes: dict[str, tuple[torch.Size, torch.Size]] = {}

    def watch(name: str) -> None:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            shapes[name] = (inputs[0].shape, getattr(output, "shape", torch.Size()))

        twin.get_submodule(name).register_forward_hook(hook)

    for name in modules:
        watch(name)
    config = getattr(model, "pretrained_cfg", None) or {}
    channels, *size = config.get("input_size", (3, 224, 224))
    weight = next(model.parameters(), torch.empty(0))
    x = torch.empty(2, getattr(model, "in_chans", channels), *size, device="meta", dtype=weight.dtype)
    first = next(iter(modules))
    try:
        with torch.no_grad():
            twin(x)
    except Exception as error:
        raise ValueError(
            f"cannot tell the channels of {first} ({type(modules[first]).__name__}): it has no attribute `channels`, "
            f"and a trial pass of {tuple(x.shape)} fails with {type(error).__name__}: {error}"
        ) from error
    for name, module in modules.items():
        if name not in shapes:
            raise ValueError(
                f"cannot tell the channels of {name} ({type(module).__name__}): no forward pass reaches it"
            )
        before, after = shapes[name]
        if len(before) != 4 or before != after:
            raise ValueError(
                f"{name} ({type(module).__name__}) cannot be replaced: it maps {tuple(before)} to {tuple(after)}, "
                "attention maps (B, C, H, W) to the same shape"
            )
    return {name: shapes[name][0][1] for name in modules}
