"""The number type of a forward pass, by its name in a recipe: `autocast`."""

import torch

_TYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def check_amp(amp: str, device: torch.device) -> None:
    """Raise ValueError if a training in this type needs another device: float16 needs CUDA."""
    if amp == "float16" and device.type != "cuda":
        raise ValueError(f'amp "float16" needs CUDA, got {device.type}; use "bfloat16"')


def autocast(amp: str, device: torch.device) -> torch.autocast:
    """The context of a forward pass on a device; "none" computes in the type of the weights."""
    return torch.autocast(device.type, _TYPES.get(amp), enabled=amp != "none")
