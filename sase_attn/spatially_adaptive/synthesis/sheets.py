"""Sheets of images side by side, as PNG files."""

import io
import math
import os
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from sase_attn.files import write_atomically
from sase_attn.spatially_adaptive.synthesis.generator import Generator


def grid(images: Tensor, columns: int | None = None) -> Tensor:
    """Arrange uint8 images (N, 3, H, W) in rows, as one (3, rows·H, columns·W); empty places are white."""
    columns = columns or math.ceil(math.sqrt(len(images)))
    rows = math.ceil(len(images) / columns)
    _, channels, height, width = images.shape
    sheet = images.new_full((rows * columns, channels, height, width), 255)
    sheet[: len(images)] = images
    return sheet.unflatten(0, (rows, columns)).permute(2, 0, 3, 1, 4).reshape(channels, rows * height, columns * width)


def save_png(image: Tensor, path: str | os.PathLike[str]) -> None:
    """Write a uint8 image (3, H, W) as a PNG file, atomically; missing folders are made. Raises OSError."""
    path = Path(path)
    content = io.BytesIO()
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(content, "PNG")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content.getvalue())


def interpolation(generator: Generator, rows: int, steps: int, seed: int = 0) -> Tensor:
    """A sheet of rows of images that go from one latent vector to another, along the sphere.

    Raises:
        ValueError: `rows` is below 1, or `steps` below 2.
    """
    if rows < 1 or steps < 2:
        raise ValueError(f"an interpolation wants at least 1 row of 2 images, got {rows} of {steps}")
    ends = generator.latents(2 * rows, seed).unflatten(0, (rows, 2))
    parts = torch.linspace(0, 1, steps)
    latents = torch.stack([_on_the_way(first, last, part) for first, last in ends for part in parts])
    # Images are rendered one at a time, so that the noise in the maps is the same for all.
    return grid(torch.cat([generator.render(latent[None], seed) for latent in latents]), steps)


def neighbours(made: Tensor, images: Tensor, places: Tensor) -> Tensor:
    """A sheet of generated images above the training images at the indices `places`, eight pairs per row."""
    rows = []
    for start in range(0, len(made), 8):
        part = slice(start, start + 8)
        rows.append(grid(torch.cat([_padded(made[part], 8), _padded(images[places[part]], 8)]), 8))
    return torch.cat(rows, dim=1)


def _padded(images: Tensor, count: int) -> Tensor:
    return torch.cat([images, images.new_full((count - len(images), *images.shape[1:]), 255)])


def _on_the_way(first: Tensor, last: Tensor, part: Tensor) -> Tensor:
    """A vector on the arc between two vectors, whose length changes gradually from that of the first to the last."""
    angle = torch.acos((first @ last / (first.norm() * last.norm())).clamp(-1, 1))
    if angle < 1e-4:
        return torch.lerp(first, last, part)
    return (torch.sin((1 - part) * angle) * first + torch.sin(part * angle) * last) / torch.sin(angle)
