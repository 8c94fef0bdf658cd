"""Read image files into memory, and report those that cannot be read."""

import os
import warnings
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision.transforms import functional as transforms

from sase_attn.training.data.image_file import UnreadableImageError, check_header, read_image

GROUP, WAITING = 32, 32  # images that a thread reads at a time, and groups that may wait to be stored
HEADERS = 50_000  # largest number of headers to read at the start, which takes about ten seconds


class Broken(NamedTuple):
    """A file that cannot be read, and why."""

    path: Path
    reason: str


class SizesDifferError(ValueError):
    """Images that were expected to have one size do not; the message names two files and their sizes."""

    @classmethod
    def between(cls, *found: tuple[Path, Sequence[int]]) -> "SizesDifferError":
        """The error for two paths and the shapes there, (…, height, width)."""
        sizes = ", ".join(f"{path} is {shape[-1]}x{shape[-2]}" for path, shape in found)
        return cls(f"images differ in size ({sizes}); give the size to serve them at")


def resize_and_crop(image: Image.Image, size: int) -> Image.Image:
    """Resize the shorter side of an image to `size`, and crop the centre to a square."""
    resized = transforms.resize(image, size)
    return transforms.center_crop(resized, size)


def first_readable(paths: Iterable[Path]) -> Image.Image:
    """The first image that can be read. Raises UnreadableImageError, with the first file's reason, if none can."""
    first: UnreadableImageError | None = None
    for path in paths:
        try:
            return read_image(path)
        except UnreadableImageError as error:
            first = first or error
    raise first or UnreadableImageError("no files")


def read_images(paths: Sequence[Path], size: int | None, *, smallest: int = 1) -> tuple[Tensor, dict[int, str]]:
    """Images as uint8 (N, 3, H, W), and for those that are broken and left out the reason, by their index in `paths`.

    Args:
        paths: the files.
        size: the size for `resize_and_crop`; None if the images have one size already.
        smallest: an image whose shorter side has fewer pixels counts as broken.

    Raises:
        SizesDifferError: `size` is None, and the images have several sizes.
    """

    def load(path: Path) -> NDArray[np.uint8] | str:
        try:
            image = read_image(path)
        except UnreadableImageError as error:
            return str(error)
        if min(image.size) < smallest:
            return f"wanted at least {smallest} pixels a side, got {image.width}x{image.height}"
        fitted = image if size is None else resize_and_crop(image, size)
        return np.asarray(fitted).transpose(2, 0, 1)

    def load_group(group: Sequence[Path]) -> list[NDArray[np.uint8] | str]:
        return [load(path) for path in group]

    pixels = np.empty((0, 3, 1, 1), np.uint8)
    kept: list[int] = []
    broken: dict[int, str] = {}
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        for start in range(0, len(paths), WAITING * GROUP):
            waiting = [paths[index] for index in range(start, min(start + WAITING * GROUP, len(paths)))]
            groups = [waiting[first : first + GROUP] for first in range(0, len(waiting), GROUP)]
            for index, image in enumerate(chain.from_iterable(pool.map(load_group, groups)), start):
                if isinstance(image, str):
                    broken[index] = image
                    continue
                if not kept:
                    pixels = np.empty((len(paths), *image.shape), np.uint8)
                if image.shape != pixels.shape[1:]:
                    raise SizesDifferError.between((paths[kept[0]], pixels.shape), (paths[index], image.shape))
                pixels[index] = image
                kept.append(index)
    return torch.from_numpy(pixels[kept] if broken else pixels), broken


def check_headers(paths: Sequence[Path]) -> None:
    """Raise ValueError for images that are broken by their headers.

    Of more than `HEADERS` files, only `HEADERS` at even distances are checked; others fail when they are read.
    """

    def check(group: range) -> list[Broken]:
        found = []
        for index in group:
            try:
                check_header(path := paths[index])
            except UnreadableImageError as error:
                found.append(Broken(path, str(error)))
        return found

    looked_at = range(0, len(paths), -(-len(paths) // HEADERS))
    groups = [looked_at[start : start + GROUP] for start in range(0, len(looked_at), GROUP)]
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        report_broken(list(chain.from_iterable(pool.map(check, groups))), len(paths), "refuse", warn=False)


def in_words(broken: Sequence[Broken]) -> str:
    """The names of the first three broken files, and why they cannot be read."""
    names = ", ".join(str(path) for path, _ in broken[:3]) + " …" * (len(broken) > 3)
    reasons = "; ".join(dict.fromkeys(reason for _, reason in broken[:3]))
    return f"{names} ({reasons})"


def report_broken(broken: Sequence[Broken], total: int, on_broken: str, *, warn: bool) -> None:
    """Raise ValueError if broken images are refused. If they are skipped, and `warn` is set, warn with their names."""
    if not broken:
        return
    line = f"{len(broken)} of {total} images cannot be read: {in_words(broken)}"
    if on_broken == "refuse":
        raise ValueError(f'{line}; mend or remove them, or give on_broken "skip"')
    if warn:
        warnings.warn(f"skipped: {line}", stacklevel=2)
