"""Image files: reading them into memory, and those that cannot be read."""

import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision.transforms import functional as transforms

GROUP, WAITING = 32, 32  # images that a thread reads at a time, and groups that wait to be stored


class SizesDifferError(ValueError):
    """Images that were expected to have one size do not; the message names two places and their sizes."""

    @classmethod
    def between(cls, *found: tuple[Path, Sequence[int]]) -> "SizesDifferError":
        """The error for two paths and the shapes there, (…, height, width)."""
        sizes = ", ".join(f"{path} is {shape[-1]}x{shape[-2]}" for path, shape in found)
        return cls(f"images differ in size ({sizes}); give the size to serve them at")


def read_image(path: Path) -> Image.Image | None:
    """The whole image as RGB, or None if it is broken."""
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError):
        return None


def resize_and_crop(image: Image.Image, size: int) -> Image.Image:
    """The centre of the image as size x size pixels, its shorter side being resized to that."""
    resized = transforms.resize(image, size)
    return transforms.center_crop(resized, size)


def read_images(paths: Sequence[Path], size: int | None) -> tuple[Tensor, list[int]]:
    """Images as uint8 (N, 3, H, W), and the places in `paths` of those that are broken and left out.

    Args:
        paths: the files.
        size: `resize_and_crop` the images to it; None: they have one size already.

    Raises:
        SizesDifferError: `size` is None, and they have several.
    """

    def load(group: Sequence[Path]) -> list[NDArray[np.uint8] | None]:
        images = map(read_image, group)
        fitted = (image if image is None or size is None else resize_and_crop(image, size) for image in images)
        return [None if image is None else np.asarray(image).transpose(2, 0, 1) for image in fitted]

    pixels = np.empty((0, 3, 1, 1), np.uint8)
    kept: list[int] = []
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        for start in range(0, len(paths), WAITING * GROUP):
            waiting = paths[start : start + WAITING * GROUP]
            groups = [waiting[first : first + GROUP] for first in range(0, len(waiting), GROUP)]
            for index, image in enumerate(chain.from_iterable(pool.map(load, groups)), start):
                if image is None:
                    continue
                if not kept:
                    pixels = np.empty((len(paths), *image.shape), np.uint8)
                if image.shape != pixels.shape[1:]:
                    raise SizesDifferError.between((paths[kept[0]], pixels.shape), (paths[index], image.shape))
                pixels[index] = image
                kept.append(index)
    broken = sorted(set(range(len(paths))).difference(kept))
    return torch.from_numpy(pixels[kept] if broken else pixels), broken


def report_broken(paths: Sequence[Path], total: int, on_broken: str, *, warn: bool) -> None:
    """Raise ValueError if broken images are refused; if they are skipped, `warn` (one rank should) with their names."""
    if not paths:
        return
    names = ", ".join(str(path) for path in paths[:3]) + " …" * (len(paths) > 3)
    line = f"{len(paths)} of {total} images cannot be read: {names}"
    if on_broken == "refuse":
        raise ValueError(f'{line}; mend or remove them, or give on_broken "skip"')
    if warn:
        warnings.warn(f"skipped: {line}", stacklevel=2)
