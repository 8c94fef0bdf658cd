"""`OneShotModel`: the generators of all scales, which make images of any size, and harmonise and edit pictures."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from sase_attn.ops.arguments import positive
from sase_attn.spatially_adaptive.synthesis.one_shot.networks import ScaleGenerator
from sase_attn.spatially_adaptive.synthesis.one_shot.pyramid import (
    Size,
    as_pixels,
    as_values,
    open_image,
    resized,
    sizes_for,
)

Draw = Callable[[tuple[int, ...]], Tensor]
Picture = str | Path | Image.Image
LARGEST_SAMPLE = 16_384  # pixels along one side
FEATHER = 2  # pixels of the finest scale over which the edge of a mask is blurred


class OneShotModel(nn.Module):
    """The model of one image, with a generator for each scale. `train_one_shot` trains it, `load_one_shot` loads it.

    Args:
        image: the image to learn, uint8 (3, H, W), in the size of the finest scale.
        sizes: (height, width) of each scale, from the coarsest.
        width: channels at the coarsest scale.
        seed: seed of the initial weights, and of the noise that the image is reconstructed from.
    """

    image: Tensor
    anchor: Tensor
    amplitudes: Tensor

    def __init__(self, image: Tensor, sizes: Sequence[Size], width: int, seed: int = 0) -> None:
        super().__init__()
        self.sizes, self.width = tuple(sizes), width
        self._image, self._seed = image, seed
        generators, anchor = self._drawn()
        self.generators = generators
        self.register_buffer("image", image.clone())
        self.register_buffer("anchor", anchor)
        self.register_buffer("amplitudes", torch.zeros(len(sizes)))

    def _drawn(self) -> tuple[nn.ModuleList, Tensor]:
        """Draw from the seed: the generators, and the noise that the image is reconstructed from."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._seed)
            generators = nn.ModuleList(ScaleGenerator(scale, self.width) for scale in range(len(self.sizes)))
            return generators, torch.randn(1, 3, *self.sizes[0])

    def reset_parameters(self) -> None:
        """Set the buffers as in a new model: the image, the noise that it is reconstructed from, no amplitudes."""
        self.image.copy_(self._image)
        self.anchor.copy_(self._drawn()[1])
        self.amplitudes.zero_()

    def init_weights(self) -> None:
        """Initialise the generators as in a new model; see `sase_attn.init_weights`."""
        self.generators.load_state_dict(self._drawn()[0].state_dict())

    def extra_repr(self) -> str:
        return " → ".join(f"{width}x{height}" for height, width in self.sizes)

    def generate(self, sizes: Sequence[Size], draw: Draw | None, previous: Tensor, start: int = 0) -> Tensor:
        """Run the generators from scale `start` to the last of `sizes`, at these sizes: (N, 3, H, W) in [-1, 1].

        `previous` is the image that scale `start` starts from, of any size. Without `draw`, no scale gets noise.
        """
        for scale in range(start, len(sizes)):
            previous = resized(previous, sizes[scale])
            if draw is not None:
                noise = draw(tuple(previous.shape)).to(previous.device)
                previous = previous + self.amplitudes[scale] * noise
            previous = self.generators[scale](previous)
        return previous

    def real(self, scale: int) -> Tensor:
        """The image at a scale, as values (1, 3, H, W)."""
        return resized(as_values(self.image), self.sizes[scale])

    def reconstruct(self, scales: int | None = None) -> Tensor:
        """The image reconstructed from its fixed noise, without any other, up to a scale: values (1, 3, H, W)."""
        sizes = self.sizes[:scales]
        coarsest: Tensor = self.generators[0](self.anchor * self.amplitudes[0])
        return self.generate(sizes, None, coarsest, start=1)

    @torch.no_grad()
    def sample(
        self,
        height: int | None = None,
        width: int | None = None,
        seed: int = 0,
        count: int = 1,
        start_scale: int = 0,
    ) -> Tensor:
        """Images like the one that was learned: uint8 (count, 3, height, width).

        Args:
            height, width: by default those of the image at the finest scale; other aspects give wider or higher scenes.
            seed: seed of the noise. Each image is the same whatever `count` is.
            count: number of images.
            start_scale: above 0, this scale starts from the learned image itself, made coarse: its layout stays, and
                only finer structure varies.

        Raises:
            ValueError: a size or count is no whole number of at least 1, or too large; or there is no such scale.
        """
        own = self.sizes[-1]
        size = (positive("height", own[0] if height is None else height),
                positive("width", own[1] if width is None else width))  # fmt: skip
        if max(size) > LARGEST_SAMPLE:
            raise ValueError(f"wanted at most {LARGEST_SAMPLE:,} pixels a side, got {size[1]}x{size[0]}")
        start = self._scale(start_scale, least=0)
        sizes = sizes_for(*size, self.sizes)
        made = []
        for place in range(positive("count", count)):
            if start == 0:
                first = self.anchor.new_zeros(1, 3, *sizes[0])
            else:
                first = resized(as_values(self.image), sizes[start - 1])
            made.append(as_pixels(self.generate(sizes, _drawing(seed, place), first, start)))
        return torch.cat(made)

    @torch.no_grad()
    def edit(self, image: Picture | Tensor, mask: Picture | Tensor | None = None, scale: int | None = None,
             seed: int = 0) -> Tensor:  # fmt: skip
        """Redraw a picture that was painted or rearranged, in the manner of the learned image: uint8 (3, H, W).

        The picture is made as coarse as the scale before `scale`, and generated anew from there. Its height becomes
        that of the learned image; its aspect ratio stays. A coarse scale changes more. Paint with colours of the image.

        Args:
            image: a file, a picture or uint8 (3, H, W).
            mask: white where the picture was edited, black where it is to stay; of the same aspect ratio. None: the
                whole picture is generated anew.
            scale: from 1 to the finest; by default the middle one, which keeps the shape of an edit but not its edges.
            seed: seed of the noise.

        Raises:
            ValueError: no such scale, or a picture or mask that cannot be read, or a mask of another aspect ratio.
            FileNotFoundError: no such file.
        """
        default = max(1, len(self.sizes) // 2)
        return self._from_picture(image, mask, self._scale(default if scale is None else scale, least=1), seed)

    @torch.no_grad()
    def harmonise(
        self, image: Picture | Tensor, mask: Picture | Tensor, scale: int | None = None, seed: int = 0
    ) -> Tensor:
        """A picture into which something was pasted, in the colours and textures of the learned image: uint8 (3, H, W).

        It works as `edit`, but from a fine scale on, so that the pasted object keeps its form.

        Args:
            image: a file, a picture or uint8 (3, H, W): the learned image with an object pasted in.
            mask: white where the object is.
            scale: from 1 to the finest, which is the default.
            seed: seed of the noise.

        Raises:
            ValueError, FileNotFoundError: as `edit`.
        """
        default = len(self.sizes) - 1
        return self._from_picture(image, mask, self._scale(default if scale is None else scale, least=1), seed)

    def _from_picture(self, image: Picture | Tensor, mask: Picture | Tensor | None, scale: int, seed: int) -> Tensor:
        pixels = _pixels(image)
        height, own_width = self.sizes[-1]
        wide = pixels.shape[2] / pixels.shape[1]
        exact = wide * height
        width = own_width if abs(exact - own_width) <= 1 else min(LARGEST_SAMPLE, max(1, round(exact)))
        sizes = sizes_for(height, width, self.sizes)
        picture = resized(as_values(pixels).to(self.anchor.device), (height, width))
        made = self.generate(sizes, _drawing(seed, 0), resized(picture, sizes[scale - 1]), scale)
        if mask is not None:
            share = _share(mask, pixels, (height, width)).to(made.device)
            made = picture + share * (made - picture)
        return as_pixels(made)[0]

    def _scale(self, scale: int, least: int) -> int:
        last = len(self.sizes) - 1
        if isinstance(scale, bool) or not isinstance(scale, int) or not least <= scale <= last:
            only = f"; the model has {last + 1} scale{'s' * (last > 0)}"
            raise ValueError(f"scale: wanted a whole number from {least} to {last}{only}, got {scale!r}")
        return scale


def _drawing(seed: int, place: int) -> Draw:
    """The noise of one sample, drawn on the CPU, so that a seed gives the same noise on every device."""
    generator = torch.Generator().manual_seed((seed * 1_000_003 + place) % 2**63)
    return lambda shape: torch.randn(shape, generator=generator)


def _pixels(image: Picture | Tensor) -> Tensor:
    if not isinstance(image, Tensor):
        return open_image(image)
    if image.dtype != torch.uint8 or image.dim() != 3 or image.shape[0] != 3 or not image.numel():
        raise ValueError(f"wanted a picture as uint8 (3, H, W), got {image.dtype} {tuple(image.shape)}")
    return image


def _share(mask: Picture | Tensor, picture: Tensor, size: Size) -> Tensor:
    """The share of each pixel to take from the generated image, (1, 1, H, W): 1 in the white of the mask, 0 outside."""
    pixels = _pixels(mask)
    if abs(pixels.shape[2] * picture.shape[1] - picture.shape[2] * pixels.shape[1]) > max(picture.shape[1:]) * 2:
        raise ValueError(
            f"mask: wanted one of the picture's aspect, {picture.shape[2]}x{picture.shape[1]}, "
            f"got {pixels.shape[2]}x{pixels.shape[1]}"
        )
    white = (resized(as_values(pixels).mean(1, keepdim=True), size) > 0).float()
    grown = functional.max_pool2d(white, 2 * FEATHER + 1, stride=1, padding=FEATHER)
    padded = functional.pad(grown, [FEATHER] * 4, mode="replicate")
    return functional.avg_pool2d(padded, 2 * FEATHER + 1, stride=1)
