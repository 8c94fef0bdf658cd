"""The discriminator: FastGAN's design (Liu et al., ICLR 2021), written from the paper's description.

Two branches return 5x5 logits each, one for the images and one for smaller versions. Maps modulate those 8 times
smaller by skip-layer excitation, whichever skips the generator has. Three decoders reconstruct real images from the
maps: the whole image, a random quarter, and the small version. This keeps the maps from describing a few details only.
"""

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from sase_attn.spatially_adaptive.skip import SkipLayerExcitation
from sase_attn.spatially_adaptive.spectral_norm import add_spectral_norm
from sase_attn.spatially_adaptive.synthesis.generator import small_size
from sase_attn.spatially_adaptive.synthesis.layers import doubled, initialise

CHANNELS = {8: 16, 16: 8, 32: 4, 64: 2, 128: 1, 256: 1 / 2, 512: 1 / 4, 1024: 1 / 8}  # times the width
LARGEST_MAP = 256  # larger images are halved by plain convolutions first
SMALLEST_MAP = 8
STRIDE = 8  # a modulated map is this many times smaller
SLOPE = 0.2


class Seen(NamedTuple):
    """Logits (N, 50) of real images, and the reconstructions of the decoders with the images they should equal."""

    logits: Tensor
    drawn: list[tuple[Tensor, Tensor]]


class Discriminator(nn.Module):
    """The discriminator: logits that are above 0 for images that look real.

    Args:
        size: height and width of the images, as for the generator.
        width: channels at 128x128.
        spectral_norm: divide the weights by their largest singular value.
    """

    def __init__(self, size: int = 256, width: int = 64, *, spectral_norm: bool = True) -> None:
        super().__init__()
        self.size, self.small_size = size, small_size(size)
        channels = {resolution: _channels(resolution, width) for resolution in CHANNELS}
        top = min(size, LARGEST_MAP)
        self.drawn_size = min(size, 128)
        self.stem = nn.Sequential(*_stem(size, top, channels))
        self.halvings, self.skips = nn.ModuleDict(), nn.ModuleDict()
        resolution = top // 2
        while resolution >= SMALLEST_MAP:
            self.halvings[str(resolution)] = Halving(channels[2 * resolution], channels[resolution])
            if STRIDE * resolution <= top:
                self.skips[str(resolution)] = SkipLayerExcitation(channels[STRIDE * resolution], channels[resolution])
            resolution //= 2
        small: list[nn.Module] = [*_halved(3, channels[self.small_size // 2], norm=False)]
        resolution = self.small_size // 4
        while resolution >= SMALLEST_MAP:
            small += _halved(channels[2 * resolution], channels[resolution])
            resolution //= 2
        self.small = nn.Sequential(*small)
        deepest = channels[SMALLEST_MAP]
        self.judge, self.judge_small = _judge(deepest), _judge(deepest)
        steps = (self.drawn_size // SMALLEST_MAP).bit_length() - 1
        drawn = [max(4, times * width) for times in (4, 2, 2, 1)][:steps]
        self.draw_whole, self.draw_small = _decoder(deepest, drawn), _decoder(deepest, drawn)
        self.draw_quarter = _decoder(channels[2 * SMALLEST_MAP], drawn)
        self.init_weights()
        if spectral_norm:
            add_spectral_norm(self)

    def init_weights(self) -> None:
        """Initialise the weights as the constructor does; see `sase_attn.init_weights`."""
        initialise(self)

    def forward(self, images: Tensor, small: Tensor) -> Tensor:
        """Logits (N, 50) of images and their smaller versions, in -1…1."""
        return self._logits(self._maps(images), self.small(small))

    def look(self, images: Tensor, small: Tensor, quarter: int) -> Seen:
        """Logits as in `forward`, and reconstructions of the whole, of a quarter (0 to 3), and of the small images."""
        maps, small_map = self._maps(images), self.small(small)
        top, left = 8 * (quarter // 2), 8 * (quarter % 2)
        part = maps[16][:, :, top : top + 8, left : left + 8]
        half = self.size // 2
        top, left = half * (quarter // 2), half * (quarter % 2)
        wanted = (images, images[:, :, top : top + half, left : left + half], small)
        drawn = (self.draw_whole(maps[8]), self.draw_quarter(part), self.draw_small(small_map))
        return Seen(
            self._logits(maps, small_map),
            [(image, resized(target, self.drawn_size)) for image, target in zip(drawn, wanted, strict=True)],
        )

    def _maps(self, images: Tensor) -> dict[int, Tensor]:
        x = self.stem(images)
        maps = {x.shape[-1]: x}
        for name, halve in self.halvings.items():
            x = halve(x)
            if name in self.skips:
                x = self.skips[name](x, maps[STRIDE * int(name)])
            maps[int(name)] = x
        return maps

    def _logits(self, maps: dict[int, Tensor], small_map: Tensor) -> Tensor:
        return torch.cat([self.judge(maps[SMALLEST_MAP]).flatten(1), self.judge_small(small_map).flatten(1)], dim=1)


class Halving(nn.Module):
    """Halves height and width: the mean of a branch with two convolutions and one with average pooling."""

    def __init__(self, source: int, channels: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            *_halved(source, channels),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.LeakyReLU(SLOPE),
        )
        self.direct = nn.Sequential(
            nn.AvgPool2d(2),
            nn.Conv2d(source, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
            nn.LeakyReLU(SLOPE),
        )

    def forward(self, x: Tensor) -> Tensor:
        return (self.main(x) + self.direct(x)) / 2


def resized(images: Tensor, size: int) -> Tensor:
    """Resize images: by means of pixels to a smaller size, bilinearly to a larger one."""
    if images.shape[-1] == size:
        return images
    if images.shape[-1] > size:
        return functional.interpolate(images, size=size, mode="area")
    return functional.interpolate(images, size=size, mode="bilinear", align_corners=False)


def _channels(resolution: int, width: int) -> int:
    return max(4, int(CHANNELS[resolution] * width))


def _stem(size: int, top: int, channels: dict[int, int]) -> list[nn.Module]:
    """Layers from the images to the largest map."""
    if size == top:
        return [nn.Conv2d(3, channels[top], 3, padding=1, bias=False), nn.LeakyReLU(SLOPE)]
    parts = _halved(3, channels[size // 2], norm=False)
    while size > 2 * top:
        size //= 2
        parts += _halved(channels[size], channels[size // 2])
    return parts


def _halved(source: int, channels: int, *, norm: bool = True) -> list[nn.Module]:
    norms: list[nn.Module] = [nn.BatchNorm2d(channels)] if norm else []
    return [nn.Conv2d(source, channels, 4, 2, 1, bias=False), *norms, nn.LeakyReLU(SLOPE)]


def _judge(channels: int) -> nn.Sequential:
    """Layers from an 8x8 map to 5x5 logits."""
    return nn.Sequential(
        nn.Conv2d(channels, channels, 1, bias=False),
        nn.BatchNorm2d(channels),
        nn.LeakyReLU(SLOPE),
        nn.Conv2d(channels, 1, 4, bias=False),
    )


def _decoder(channels: int, drawn: list[int]) -> nn.Sequential:
    """Layers from an 8x8 map to an image, by doubled maps of these channels."""
    doublings = [doubled(source, target) for source, target in pairwise([channels, *drawn])]
    return nn.Sequential(*doublings, nn.Conv2d(drawn[-1], 3, 3, padding=1, bias=False), nn.Tanh())
