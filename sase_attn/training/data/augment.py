"""Augmentation of whole batches: what is drawn for each image, and its application, without a loop over images."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, interpolate, pad

PADDING = 4
SCALE, RATIO, TRIES = (0.08, 1.0), (3 / 4, 4 / 3), 10  # as torchvision's RandomResizedCrop
GRAY = (0.299, 0.587, 0.114)
JITTERS = ("brightness", "contrast", "saturation", "hue")

Draws = dict[str, Tensor]


@dataclass(frozen=True)
class Augment:
    """The training augmentation of `DataConfig`, for stored images of any size served at `size`.

    "cifar": a crop at the stored size after zero padding by 4, and a flip. "imagenet": a crop of 8 to 100 % of the area
    and of ratio 3/4 to 4/3 resampled bilinearly, and a flip. Then colour jitter as torchvision's, in an order drawn for
    the batch rather than for each image.
    """

    kind: str
    size: tuple[int, int]
    jitter: tuple[float, ...] = ()

    def draw(self, count: int, stored: tuple[int, int], generator: torch.Generator) -> Draws:
        """Everything random about `count` images of a stored (height, width); row i of each tensor is image i's."""
        draws: Draws = {}
        if self.kind == "cifar":
            draws["top"], draws["left"] = torch.randint(0, 2 * PADDING + 1, (2, count), generator=generator)
        if self.kind == "imagenet":
            draws["box"] = _boxes(count, *stored, generator)
        if self.kind != "none":
            draws["flip"] = torch.rand(count, generator=generator) < 0.5
        if self.jitter:
            draws["order"] = torch.randperm(len(self.jitter), generator=generator).expand(count, -1)
        for name, strength in zip(JITTERS, self.jitter, strict=False):
            low, high = (-strength, strength) if name == "hue" else (max(0.0, 1 - strength), 1 + strength)
            draws[name] = low + (high - low) * torch.rand(count, generator=generator)
        return draws

    def __call__(self, images: Tensor, draws: Draws) -> Tensor:
        """Images (B, C, H, W) uint8 as augmented: (B, C, *size) float32 in [0, 255]."""
        if self.kind == "cifar":
            images = crop(images, draws["top"], draws["left"], draws["flip"])
        if self.kind == "imagenet":
            images = resized_crop(images, draws["box"], draws["flip"], self.size)
        images = resize(images.float(), self.size)
        for index in draws["order"][0].tolist() if self.jitter else ():
            images = _JITTER[JITTERS[index]](images, draws[JITTERS[index]].view(-1, 1, 1, 1))
        return images


def resize(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear, with antialiasing when shrinking; the very images if they have that size."""
    if tuple(images.shape[2:]) == size:
        return images
    return interpolate(images, size, mode="bilinear", antialias=True)


def crop(images: Tensor, top: Tensor, left: Tensor, flip: Tensor) -> Tensor:
    """Windows of the images' own size out of the images padded with zeros, mirrored where `flip`."""
    height, width = images.shape[2:]
    columns = torch.arange(width)
    columns = left[:, None] + torch.where(flip[:, None], columns.flip(0), columns)
    rows = top[:, None] + torch.arange(height)
    index = rows[:, :, None] * (width + 2 * PADDING) + columns[:, None, :]
    padded = pad(images, (PADDING,) * 4).flatten(2)
    return padded.gather(2, index.flatten(1)[:, None].expand(-1, images.shape[1], -1)).view(images.shape)


def _boxes(count: int, height: int, width: int, generator: torch.Generator) -> Tensor:
    """(count, 4): top, left, height, width of random crops: the first of ten tries that fits, else the centre."""
    area, ratio, down, right = torch.rand(4, count, TRIES, generator=generator)
    area = height * width * (SCALE[0] + (SCALE[1] - SCALE[0]) * area)
    ratio = (math.log(RATIO[0]) + (math.log(RATIO[1]) - math.log(RATIO[0])) * ratio).exp()
    w, h = (area * ratio).sqrt().round(), (area / ratio).sqrt().round()
    fits = (w >= 1) & (w <= width) & (h >= 1) & (h <= height)
    tries = torch.stack([(down * (height - h + 1)).floor(), (right * (width - w + 1)).floor(), h, w], -1)
    h_center, w_center = min(height, round(width / RATIO[0])), min(width, round(height * RATIO[1]))
    center = torch.tensor([(height - h_center) // 2, (width - w_center) // 2, h_center, w_center], dtype=torch.float)
    first = tries[torch.arange(count), fits.int().argmax(1)]
    return torch.where(fits.any(1, keepdim=True), first, center)


def resized_crop(images: Tensor, box: Tensor, flip: Tensor, size: tuple[int, int]) -> Tensor:
    """The boxes of the images, mirrored where `flip`, resampled bilinearly to `size`; meant for enlarging."""
    height, width = images.shape[2:]
    top, left, h, w = box.unbind(1)
    theta = torch.zeros(len(images), 2, 3)
    theta[:, 0, 0] = torch.where(flip, -w, w) / width
    theta[:, 0, 2] = (2 * left + w) / width - 1
    theta[:, 1, 1] = h / height
    theta[:, 1, 2] = (2 * top + h) / height - 1
    grid = affine_grid(theta, [len(images), images.shape[1], *size], align_corners=False)
    return grid_sample(images.float(), grid, padding_mode="border", align_corners=False)


def _gray(images: Tensor) -> Tensor:
    return (images * images.new_tensor(GRAY).view(1, 3, 1, 1)).sum(1, keepdim=True)


def _brightness(images: Tensor, factor: Tensor) -> Tensor:
    return (images * factor).clamp_(0, 255)


def _contrast(images: Tensor, factor: Tensor) -> Tensor:
    return (images * factor + _gray(images).mean((2, 3), keepdim=True) * (1 - factor)).clamp_(0, 255)


def _saturation(images: Tensor, factor: Tensor) -> Tensor:
    return (images * factor + _gray(images) * (1 - factor)).clamp_(0, 255)


def _hue(images: Tensor, shift: Tensor) -> Tensor:
    """Turn the hue by `shift` of the circle, keeping value and chroma of HSV."""
    r, g, b = images.unbind(1)
    value, place = images.max(1)
    chroma = value - images.amin(1)
    safe = chroma.clamp_min(1e-6)
    sector = torch.stack([(g - b) / safe, (b - r) / safe + 2, (r - g) / safe + 4], 1).gather(1, place[:, None])
    k = (torch.tensor([5.0, 3.0, 1.0]).view(1, 3, 1, 1) + sector + 6 * shift) % 6
    return value[:, None] - chroma[:, None] * torch.minimum(k, 4 - k).clamp(0, 1)


_JITTER = {"brightness": _brightness, "contrast": _contrast, "saturation": _saturation, "hue": _hue}
