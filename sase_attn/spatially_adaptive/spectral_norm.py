"""Spectral normalisation, Miyato et al., arXiv 1802.05957, by the largest singular value of each group of a weight."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from sase_attn.spatially_adaptive.layers import GroupedLinear

_STEPS = 15  # first steps of the power iteration, as in torch's own


class GroupedSpectralNorm(nn.Module):
    """A parametrization that divides the matrix of each group of a weight by an estimate of its largest singular value.

    torch's own treats a grouped weight as one matrix. As in torch, every use in training mode is one step of the power
    iteration, whose vectors are the buffers `_u` (groups, rows) and `_v` (groups, columns).
    """

    _u: Tensor
    _v: Tensor

    def __init__(self, weight: Tensor, groups: int) -> None:
        super().__init__()
        self.groups = groups
        matrices = self._matrices(weight.detach())
        for name, size in (("_u", matrices.shape[1]), ("_v", matrices.shape[2])):
            self.register_buffer(name, matrices.new_empty(groups, size))
        self.reset_parameters()
        for _ in range(_STEPS):
            self._step(matrices)

    def reset_parameters(self) -> None:
        """Draw the vectors. They become an estimate only by steps with the weight: see `reset_spectral_norm`."""
        for vector in (self._u, self._v):
            vector.copy_(F.normalize(vector.normal_(), dim=1))

    def forward(self, weight: Tensor) -> Tensor:
        matrices = self._matrices(weight)
        if self.training:
            self._step(matrices.detach())
        # Copies, because the next step changes the buffers, and a backward pass may still need their values.
        u, v = self._u.clone(), self._v.clone()
        sigma = u[:, None] @ matrices @ v[:, :, None]
        return (matrices / sigma).view_as(weight)

    def right_inverse(self, weight: Tensor) -> Tensor:
        return weight

    def _matrices(self, weight: Tensor) -> Tensor:
        return weight.view(self.groups, weight.shape[0] // self.groups, -1)

    @torch.no_grad()
    def _step(self, matrices: Tensor) -> None:
        self._u.copy_(F.normalize((matrices @ self._v[:, :, None])[..., 0], dim=1, eps=1e-12))
        self._v.copy_(F.normalize((self._u[:, None] @ matrices)[:, 0], dim=1, eps=1e-12))


def add_spectral_norm(module: nn.Module) -> nn.Module:
    """Add a spectral norm to every convolution and linear layer that has none, in place; return the module.

    Initialise the module first, because the estimate of the singular values starts from its present weights.
    """
    for layer in module.modules():
        if parametrize.is_parametrized(layer, "weight"):
            continue
        if isinstance(layer, GroupedLinear) or (isinstance(layer, nn.Conv2d) and layer.groups > 1):
            norm = GroupedSpectralNorm(layer.weight, layer.groups)
            parametrize.register_parametrization(layer, "weight", norm)
        elif isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            parametrizations.spectral_norm(layer)
    return module


def own_weight(layer: nn.Module) -> Tensor:
    """The weight that a layer learns; with a spectral norm, it is the one before the division."""
    parametrized = parametrize.is_parametrized(layer, "weight")
    return layer.get_parameter("parametrizations.weight.original" if parametrized else "weight")


def has_spectral_norm(layer: nn.Module) -> bool:
    """Whether a layer has a spectral norm."""
    parts = layer.get_submodule("parametrizations.weight") if parametrize.is_parametrized(layer, "weight") else None
    return parts is not None and any("_u" in part._buffers for part in parts.children())


@torch.no_grad()
def reset_spectral_norm(module: nn.Module) -> None:
    """Start the estimates of all spectral norms in a module anew from its present weights."""
    for layer in module.modules():
        if has_spectral_norm(layer):
            norm, weight = layer.get_submodule("parametrizations.weight.0"), own_weight(layer)
            for vector in norm.buffers():  # _u, then _v
                vector.copy_(F.normalize(vector.normal_(), dim=-1))
            was_training = norm.training
            norm.train()
            for _ in range(_STEPS):
                norm(weight)  # in training mode, each call is a step of the power iteration
            norm.train(was_training)


@torch.no_grad()
def draw_normalised(layer: nn.Module) -> None:
    """Call `reset_parameters()` of a layer with spectral norm so that it sets the weight, not a divided copy of it."""
    with parametrize.cached():  # so that both lines below use the same tensor
        layer.reset_parameters()  # type: ignore[operator]
        layer.weight = layer.weight
    reset_spectral_norm(layer)
