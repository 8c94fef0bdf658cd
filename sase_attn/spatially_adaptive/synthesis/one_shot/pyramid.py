"""The image pyramid, for any aspect ratio: sizes from coarse to fine, and pictures as tensors in [-1, 1]."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from sase_attn.training.data.image_file import read_image

Size = tuple[int, int]


def open_image(source: str | Path | Image.Image, longest: int | None = None) -> Tensor:
    """An image as uint8 (3, H, W), its longer side at most `longest`.

    Args:
        source: a file, read as everywhere in the package (also 16-bit, transparent and rotated ones); or a picture.
        longest: the longest side allowed; a larger image is made smaller. None: the size stays.

    Raises:
        FileNotFoundError: no such file. ValueError: it is no image, damaged or of one colour; the message names it.
    """
    if isinstance(source, Image.Image):
        image, name = source.convert("RGB"), "the image"
    else:
        image, name = _read(Path(source)), str(source)
    if longest is not None and max(image.size) > longest:
        scale = longest / max(image.size)
        width, height = (max(1, round(side * scale)) for side in image.size)
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()
    if bool((pixels.flatten(1) == pixels.flatten(1)[:, :1]).all()):
        raise ValueError(f"{name} is of one colour: wanted an image with something to learn")
    return pixels


def _read(path: Path) -> Image.Image:
    if not path.exists():
        raise FileNotFoundError(f"no such image: {path}")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: wanted one image file")
    try:
        return read_image(path)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def as_values(pixels: Tensor) -> Tensor:
    """uint8 (3, H, W) as values (1, 3, H, W) in [-1, 1]."""
    return pixels[None].float() / 127.5 - 1


def as_pixels(values: Tensor) -> Tensor:
    """Values (N, 3, H, W) in [-1, 1] as uint8 on the CPU."""
    return ((values.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu()


def scale_sizes(height: int, width: int, smallest: int, scales: int) -> tuple[Size, ...]:
    """(height, width) of each scale, from the coarsest, whose shorter side is `smallest`, to the image's own size."""
    if scales == 1:
        return ((height, width),)
    ratio = math.log(smallest / min(height, width)) / (scales - 1)
    factors = [math.exp(ratio * (scales - 1 - scale)) for scale in range(scales)]
    return tuple((max(1, round(height * factor)), max(1, round(width * factor))) for factor in factors)


def sizes_for(height: int, width: int, sizes: Sequence[Size]) -> tuple[Size, ...]:
    """The scales of an image of another size, in the proportions of those that were trained."""
    last = sizes[-1]
    return tuple((max(1, round(height * h / last[0])), max(1, round(width * w / last[1]))) for h, w in sizes)


def resized(values: Tensor, size: Size) -> Tensor:
    """Resize bilinearly, with antialiasing to a smaller size."""
    if values.shape[2:] == size:
        return values
    smaller = size[0] < values.shape[2] or size[1] < values.shape[3]
    return functional.interpolate(values, size=size, mode="bilinear", align_corners=False, antialias=smaller)
