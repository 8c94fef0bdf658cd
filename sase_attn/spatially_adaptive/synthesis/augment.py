"""Differentiable augmentation (Zhao et al., NeurIPS 2020), from the paper: of real and generated images alike.

With only a hundred images, the discriminator would memorise them; augmentation prevents this. Generated images are
augmented in the same way, and gradients pass through, so that the generator does not learn to make augmented images.
"""

import torch
from torch import Tensor

AUGMENTATIONS = ("color", "translation")
SHIFT = 8  # images are shifted by up to 1/SHIFT of their size


def augmented(images: Tensor, names: tuple[str, ...]) -> Tensor:
    """Augment images (N, 3, H, W) in -1…1, each with its own random draws from torch's generator."""
    for name in names:
        images = color(images) if name == "color" else translation(images)
    return images


def color(images: Tensor) -> Tensor:
    """Add up to ±0.5 to the brightness, and multiply saturation by 0 to 2 and contrast by 0.5 to 1.5."""
    brightness, saturation, contrast = torch.rand(3, len(images), 1, 1, 1, device=images.device)
    images = images + (brightness - 0.5)
    gray = images.mean(dim=1, keepdim=True)
    images = gray + (images - gray) * (2 * saturation)
    middle = images.mean(dim=(1, 2, 3), keepdim=True)
    return middle + (images - middle) * (contrast + 0.5)


def translation(images: Tensor) -> Tensor:
    """Shift images by up to an eighth of height and width; uncovered pixels become 0, a middle gray."""
    count, _, height, width = images.shape
    rows, columns = (
        torch.arange(length, device=images.device)
        + torch.randint(-(length // SHIFT), length // SHIFT + 1, (count, 1), device=images.device)
        for length in (height, width)
    )
    inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None, :]
    index = torch.arange(count, device=images.device)[:, None, None]
    moved = images.permute(0, 2, 3, 1)[
        index, rows.clamp(0, height - 1)[:, :, None], columns.clamp(0, width - 1)[:, None, :]
    ]
    return (moved * inside[..., None]).permute(0, 3, 1, 2)
