"""The generator: FastGAN's design (Liu et al., ICLR 2021), with skips per channel, or per channel and position.

It is written from the paper's description. A latent vector becomes a 4x4 map, which is doubled up to the image; small
maps modulate those 16 times as large. `"sle"` is the paper's skip-layer excitation, with a weight per channel.
`"spatial"` is the module of Shen and Wu (arXiv 2112.14804), with a weight per channel and position. As in their code,
it starts from the 8x8, 16x16 and 32x32 maps, with a dilation of 4 from the last one and, at 1024 pixels, noise on the
masks; the skip from the 4x4 map is still `"sle"`. Deviations:

- At 64 pixels the only skip starts at the 4x4 map. It is then `"spatial"` too, or the choice would change nothing.
- Images end in tanh at every size.
- A map has at least 4 channels.
- Images are generated in eval mode, by the running averages of batch norm; the authors' code does it in training mode.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from sase_attn.spatially_adaptive.skip import SkipLayerExcitation, SpatiallyAdaptiveSkip
from sase_attn.spatially_adaptive.spectral_norm import add_spectral_norm
from sase_attn.spatially_adaptive.synthesis.layers import doubled, initialise, plain_weights
from sase_attn.training.data.order import hash_seed

SIZES = (64, 128, 256, 512, 1024)
SKIPS = ("sle", "spatial")
CHANNELS = {4: 16, 8: 8, 16: 4, 32: 2, 64: 2, 128: 1, 256: 1 / 2, 512: 1 / 4, 1024: 1 / 8}  # times the width
STRIDE = 16  # a modulated map is this many times larger


class Generator(nn.Module):
    """The generator: images from latent vectors.

    Args:
        size: height and width of the images, one of `SIZES`.
        width: channels at 128x128; other maps have multiples of it.
        latent: length of a latent vector.
        skip: "sle" or "spatial".
        style_norm: whether the styles of "spatial" have a batch norm; with batches of one image, it would return the
            same style for all.
        spectral_norm: divide the weights by their largest singular value during training; a saved generator has plain
            weights.
    """

    def __init__(
        self,
        size: int = 256,
        width: int = 64,
        latent: int = 256,
        skip: str = "spatial",
        *,
        style_norm: bool = True,
        spectral_norm: bool = True,
    ) -> None:
        super().__init__()
        self.style_norm = style_norm
        self.size, self.width, self.latent, self.skip = size, width, latent, skip
        self.small_size = small_size(size)
        channels = {resolution: channels_at(resolution, width) for resolution in CHANNELS if resolution <= size}
        self.start = nn.Sequential(
            nn.ConvTranspose2d(latent, 2 * channels[4], 4, bias=False), nn.BatchNorm2d(2 * channels[4]), nn.GLU(1)
        )
        self.doublings, self.skips = nn.ModuleDict(), nn.ModuleDict()
        for resolution in list(channels)[1:]:
            noise = resolution in (8, 32, 128, 512)
            name = str(resolution)
            self.doublings[name] = doubled(channels[resolution // 2], channels[resolution], noise=noise)
            source = resolution // STRIDE
            if 4 <= source <= 32:
                self.skips[name] = self._skip(source, channels[source], channels[resolution])
        self.to_image = nn.Conv2d(channels[size], 3, 3, padding=1, bias=False)
        self.to_small = nn.Conv2d(channels[self.small_size], 3, 1, bias=False)
        self.init_weights()
        if spectral_norm:
            add_spectral_norm(self)

    def init_weights(self) -> None:
        """Initialise the weights as the constructor does; see `sase_attn.init_weights`."""
        initialise(self)

    def _skip(self, resolution: int, source: int, target: int) -> nn.Module:
        """The module that modulates a map of `target` channels by the map at `resolution`."""
        if self.skip == "sle" or (resolution == 4 and self.size > 64):
            return SkipLayerExcitation(source, target)
        return SpatiallyAdaptiveSkip(
            source,
            target,
            dilation=4 if resolution == 32 else 2,
            mask_noise=self.size == 1024,
            style_norm=self.style_norm,
        )

    def forward(self, latent: Tensor) -> Tensor:
        """Images (N, 3, size, size) in -1…1 from latent vectors (N, latent)."""
        return self.pair(latent)[0]

    def pair(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Images, and smaller ones from an earlier map, which the discriminator judges too."""
        maps = {4: self.start(latent[:, :, None, None])}
        x, small = maps[4], None
        for name, double in self.doublings.items():
            x = double(x)
            if name in self.skips:
                x = self.skips[name](x, maps[int(name) // STRIDE])
            maps[int(name)] = x
            if int(name) == self.small_size:
                small = torch.tanh(self.to_small(x))
        assert small is not None
        return torch.tanh(self.to_image(x)), small

    def sample(self, count: int, seed: int = 0, batch_size: int = 16) -> Tensor:
        """Generate images as uint8 (count, 3, size, size) on the CPU; equal for equal arguments on one machine.

        Raises:
            ValueError: `count` or `batch_size` is below 1.
        """
        return torch.cat(list(self.batches(count, seed, batch_size)))

    def batches(self, count: int, seed: int = 0, batch_size: int = 16) -> Iterator[Tensor]:
        """The images of `sample`, a batch at a time, so that many need little memory. Raises as `sample` does."""
        if count < 1 or batch_size < 1:
            raise ValueError(f"wanted a count and a batch size of at least 1, got {count} and {batch_size}")
        for first, latents in enumerate(self.latents(count, seed).split(batch_size)):
            yield self.render(latents, hash_seed(seed, first))

    def latents(self, count: int, seed: int = 0) -> Tensor:
        """The latent vectors of `sample`; the first ones do not depend on the count."""
        generator = torch.Generator().manual_seed(seed)
        return torch.stack([torch.randn(self.latent, generator=generator) for _ in range(count)])

    @torch.no_grad()
    def render(self, latents: Tensor, seed: int = 0) -> Tensor:
        """Generate images as uint8 on the CPU, in eval mode; the seed decides the noise in the maps."""
        was_training, device = self.training, next(self.parameters()).device
        self.eval()
        try:
            with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
                torch.manual_seed(seed)
                return as_bytes(self(latents.to(device))).cpu()
        finally:
            self.train(was_training)

    def plain(self) -> "Generator":
        """A copy in eval mode on the CPU, with plain weights that the spectral norm has been applied to."""
        found = Generator(
            self.size, self.width, self.latent, self.skip, style_norm=self.style_norm, spectral_norm=False
        )
        was_training = self.training
        self.eval()
        try:
            found.load_state_dict(plain_weights(self, found))
        finally:
            self.train(was_training)
        return found.eval().requires_grad_(False)


def channels_at(resolution: int, width: int) -> int:
    """Channels of the generator's map of a height and width."""
    return max(4, int(CHANNELS[resolution] * width))


def small_size(size: int) -> int:
    """The size of the smaller versions that go with images of a size."""
    return min(128, size // 2)


def as_bytes(images: Tensor) -> Tensor:
    """Convert values in -1…1 to uint8."""
    return ((images.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def as_values(images: Tensor) -> Tensor:
    """Convert uint8 to values in -1…1."""
    return images.float() / 127.5 - 1
