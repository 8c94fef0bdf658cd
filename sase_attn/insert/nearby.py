"""The device and type of the layers near a place in a network, for a new module there."""

from itertools import chain

import torch
from torch import nn


def nearby_tensor(model: nn.Module, name: str) -> torch.Tensor:
    """A parameter or buffer of the module, or of the nearest module around it, for its device and floating type."""
    while True:
        module = model.get_submodule(name)
        tensors = chain(module.parameters(), module.buffers())
        tensor = next((tensor for tensor in tensors if tensor.is_floating_point()), None)
        if tensor is not None:
            return tensor
        if not name:
            return torch.empty(0)
        name = name.rpartition(".")[0]
