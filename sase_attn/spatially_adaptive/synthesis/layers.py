"""Parts of the generator and the discriminator: initial weights, spectral norm, noise, and blocks that double a map."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from sase_attn.spatially_adaptive.spectral_norm import own_weight, reset_spectral_norm


def initialise(module: nn.Module) -> None:
    """Draw the weights of convolutions from N(0, 0.02), of batch norms from N(1, 0.02); their biases are 0.

    The estimates of spectral norms that are there already start anew, from these weights.
    """
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(own_weight(part), 0.0, 0.02)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.weight, 1.0, 0.02)
            nn.init.zeros_(part.bias)
    reset_spectral_norm(module)


@torch.no_grad()
def plain_weights(module: nn.Module, plain: nn.Module) -> dict[str, Tensor]:
    """The state dict for `plain`, which is `module` without spectral norm, with the normalised weights of `module`.

    Put `module` into eval mode first, because in training mode each access updates its estimate of the singular values.
    """
    found = {}
    for name in plain.state_dict():
        owner, _, leaf = name.rpartition(".")
        found[name] = getattr(module.get_submodule(owner), leaf).detach().cpu().clone()
    return found


def power_vectors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The vectors of the spectral norm by name. They belong to one set of weights, so they must not be averaged."""
    return ((name, buffer) for name, buffer in module.named_buffers() if name.endswith(("._u", "._v")))


class Noise(nn.Module):
    """x + strength·n, with n from N(0, 1) for each position, the same for all channels; strength starts at 0."""

    def __init__(self) -> None:
        super().__init__()
        self.strength = nn.Parameter(torch.empty(1))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start without noise."""
        nn.init.zeros_(self.strength)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.strength * torch.randn(x.shape[0], 1, *x.shape[2:], device=x.device, dtype=x.dtype)


def gated(*, source: int, channels: int, noise: bool) -> list[nn.Module]:
    """A 3x3 convolution, noise if wanted, batch norm, and a gated linear unit that halves them to `channels`."""
    parts: list[nn.Module] = [nn.Conv2d(source, 2 * channels, 3, padding=1, bias=False)]
    if noise:
        parts.append(Noise())
    return [*parts, nn.BatchNorm2d(2 * channels), nn.GLU(1)]


def doubled(source: int, channels: int, *, noise: bool = False) -> nn.Sequential:
    """A block that doubles height and width; with noise, it has a second convolution."""
    parts = [nn.Upsample(scale_factor=2.0), *gated(source=source, channels=channels, noise=noise)]
    if noise:
        parts += gated(source=channels, channels=channels, noise=True)
    return nn.Sequential(*parts)
