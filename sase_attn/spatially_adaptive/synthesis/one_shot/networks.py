"""The two networks of a scale: SinGAN's five convolutions, with the spatially-adaptive skip in the generator.

SinGAN, arXiv 1905.01164, and arXiv 2112.14804 for the skip. Deviation: the generator of a scale gives the image itself
and not what is to be added to the coarser one, as Shen and Wu's code has it.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from sase_attn.spatially_adaptive.skip import SpatiallyAdaptiveSkip

MARGIN = 5  # pixels that five 3x3 convolutions take from each side
COARSE_DILATION, FINE_DILATION, FINE = 5, 8, 4  # of the skip's masks: up to scale 3, and from scale 4 on


def channels_of(scale: int, width: int) -> int:
    """Channels of a scale's networks: twice as many with every four scales, at most four times."""
    return min(width * 2 ** (scale // 4), 4 * width)


def _block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3), nn.BatchNorm2d(outputs), nn.LeakyReLU(0.2))


class ScaleGenerator(nn.Module):
    """Noise plus the image of the coarser scale, (N, 3, H, W), to an image of the same size, in [-1, 1].

    Head, three blocks, the skip from the head's map to the blocks', and a last convolution. The zeros around the image
    are added once, before the head.

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
        self.apply(_initialise)

    def forward(self, x: Tensor) -> Tensor:
        source = self.head(functional.pad(x, [MARGIN] * 4))
        target = self.body(source)
        if self.skip is not None:
            target = self.skip(target, source)
        return torch.tanh(self.tail(target))


class ScaleDiscriminator(nn.Module):
    """One score for each patch of 11x11 pixels: (N, 3, H, W) to (N, 1, H - 10, W - 10)."""

    def __init__(self, scale: int, width: int) -> None:
        super().__init__()
        channels = channels_of(scale, width)
        self.layers = nn.Sequential(
            _block(3, channels), *(_block(channels, channels) for _ in range(3)), nn.Conv2d(channels, 1, 3)
        )
        self.apply(_initialise)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def _initialise(module: nn.Module) -> None:
    """Normal weights, as SinGAN's code draws them; its biases are torch's."""
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)


def start_from(network: nn.Module, coarser: nn.Module) -> None:
    """Give a network the weights of the one of the coarser scale, where they have the same names and shapes."""
    own, weights = network.state_dict(), coarser.state_dict()
    if all(key not in own or own[key].shape == value.shape for key, value in weights.items()):
        network.load_state_dict(weights, strict=False)
