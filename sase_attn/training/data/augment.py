"""`Augment`: augmentation of whole batches, with random draws for each image but no loop over images."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

from sase_attn.training.data.color_jitter import ADJUST
from sase_attn.training.data.crop import PADDING, draw_boxes, padded_crop, resized_crop

JITTERS = tuple(ADJUST)
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
            draws["box"] = draw_boxes(count, *stored, generator)
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
            images = padded_crop(images, draws["top"], draws["left"], draws["flip"])
        if self.kind == "imagenet":
            images = resized_crop(images, draws["box"], draws["flip"], self.size)
        images = transforms.resize(images.float(), list(self.size))
        for index in draws["order"][0].tolist() if self.jitter else ():
            name = JITTERS[index]
            images = ADJUST[name](images, draws[name].view(-1, 1, 1, 1))
        return images
