"""The two networks of a scale: SinGAN's five convolutions, with the spatially-adaptive skip in the generator.

SinGAN is arXiv 1905.01164, the skip arXiv 2112.14804. Deviation from SinGAN, as in Shen and Wu's code: the generator of
a scale returns the image itself, not a residual to add to the coarser image.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from sase_attn.spatially_adaptive.skip import SpatiallyAdaptiveSkip

MARGIN = 5  # pixels that five 3x3 convolutions without padding remove from each side
COARSE_DILATION, FINE_DILATION, FINE = 5, 8, 4  # dilation of the skip's masks: up to scale 3, and from scale 4 on


def channels_of(scale: int, width: int) -> int:
    """Channels of a scale's networks: doubled every four scales, up to four times the width."""
    return min(width * 2 ** (scale // 4), 4 * width)


def _block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3), nn.BatchNorm2d(outputs), nn.LeakyReLU(0.2))


class ScaleGenerator(nn.Module):
    """Maps noise plus the image of the coarser scale, (N, 3, H, W), to an image of the same size, in [-1, 1].

    It has a head, three blocks, the skip from the head's map to that of the blocks, and a last convolution. The image
    is padded with zeros once, before the head.

    Args:
        scale: 0 is the coarsest, which has no skip.
        width: channels at scale 0.
    """

    def __init__(self, scale: int, width: int) -> None:
        super().__init__()
        channels = channels_of(scale, width)
        self.head = _block(3, channels)
        self.body = nn.Sequential(*(_block(channels, channels) for _ in range(3)))
        self.skip = None
        if scale > 0:
            dilation = COARSE_DILATION if scale < FINE else FINE_DILATION
            self.skip = SpatiallyAdaptiveSkip(channels, channels, reduction=1, dilation=dilation, style_norm=False)
        self.tail = nn.Conv2d(channels, 3, 3)
        self.init_weights()

    def init_weights(self) -> None:
        """Initialise the weights as the constructor does; see `sase_attn.init_weights`."""
        self.apply(_initialise)

    def forward(self, x: Tensor) -> Tensor:
        source = self.head(functional.pad(x, [MARGIN] * 4))
        target = self.body(source)
        if self.skip is not None:
            target = self.skip(target, source)
        return torch.tanh(self.tail(target))


class ScaleDiscriminator(nn.Module):
    """Scores every patch of 11x11 pixels: (N, 3, H, W) to (N, 1, H - 10, W - 10)."""

    def __init__(self, scale: int, width: int) -> None:
        super().__init__()
        channels = channels_of(scale, width)
        self.layers = nn.Sequential(
            _block(3, channels), *(_block(channels, channels) for _ in range(3)), nn.Conv2d(channels, 1, 3)
        )
        self.init_weights()

    def init_weights(self) -> None:
        """Initialise the weights as the constructor does; see `sase_attn.init_weights`."""
        self.apply(_initialise)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def _initialise(module: nn.Module) -> None:
    """Draw normal weights as in SinGAN's code; biases stay as torch draws them."""
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)


def start_from(network: nn.Module, coarser: nn.Module) -> None:
    """Copy the weights of the coarser scale's network, where names and shapes are the same."""
    own, weights = network.state_dict(), coarser.state_dict()
    if all(key not in own or own[key].shape == value.shape for key, value in weights.items()):
        network.load_state_dict(weights, strict=False)
