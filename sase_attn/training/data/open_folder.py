"""`open_folder`: loaders of an image folder, from memory if it fits, otherwise from files."""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor

from sase_attn.training.data.config import DataConfig
from sase_attn.training.data.folder import ImageFiles, ImageFolder, scan
from sase_attn.training.data.image_file import UnreadableImageError
from sase_attn.training.data.in_memory import CHANNELS, MEMORY_BYTES, memory_loaders
from sase_attn.training.data.loader import DataInfo, SubsetLoader
from sase_attn.training.data.on_disk import CROP_PCT, file_loaders
from sase_attn.training.data.order import Shard
from sase_attn.training.data.reading import (
    Broken,
    SizesDifferError,
    check_headers,
    first_readable,
    read_images,
    report_broken,
)
from sase_attn.training.data.sets import Arrays

NORMALISATION = (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)


def open_folder(folder: Path, config: DataConfig, shard: Shard) -> tuple[SubsetLoader, SubsetLoader, DataInfo]:
    """Open an image folder, in memory if it is small enough and nothing is lost, otherwise file by file.

    Images are loaded into memory (up to 1 GiB) if they have one size, not above the one wanted. For augment "cifar" or
    "none" they may have any size: they are then fitted to it once: shorter side resized, centre cropped.

    Raises:
        FileNotFoundError: a split is missing.
        ValueError: see `scan`; one class alone; broken images, or images of several sizes and no `size`.
    """
    found = scan(folder, warn=shard.rank == 0)
    if len(found.classes) < 2:
        raise ValueError(f"{folder}: wanted images of two classes or more, got {found.classes[0]!r} alone")
    paths = [found.train.paths, found.test.paths]
    count = sum(map(len, paths))
    try:
        first = first_readable(chain.from_iterable(paths))
    except UnreadableImageError as error:
        raise ValueError(f"{folder}: none of {count} images can be read ({error})") from None
    size, (width, height) = config.size, first.size
    ready = size is None or (width == height and width <= size)
    if ready and CHANNELS * count * width * height <= MEMORY_BYTES:
        try:
            return memory_loaders(_load(found, None, config, shard), found.identity, config, shard)
        except SizesDifferError:
            if size is None:
                raise
    elif size is None:
        raise ValueError(
            f"{folder}: {count} images like {paths[0][0]} are too many for memory; give the size to serve them at"
        )
    if config.augment != "imagenet" and CHANNELS * count * size * size <= MEMORY_BYTES:
        return memory_loaders(_load(found, size, config, shard), found.identity, config, shard)
    if config.on_broken == "refuse":
        for split in (found.test, found.train):
            check_headers(split.paths)
    counts = len(found.train.paths), len(found.test.paths)
    crop_pct = CROP_PCT if config.augment == "imagenet" else 1.0
    info = DataInfo(
        folder.name, found.classes, CHANNELS, (size, size), *NORMALISATION, *counts, crop_pct, identity=found.identity
    )
    return *file_loaders(found.train, found.test, info, config, shard), info


def _load(found: ImageFolder, size: int | None, config: DataConfig, shard: Shard) -> Arrays:
    """Both splits in memory, without the broken images. Raises SizesDifferError, or ValueError for broken ones."""
    splits = (found.train, found.test)
    arrays = load_splits(splits, found.classes, size, config, shard)
    (train, _), (test, _) = arrays
    if train.shape[1:] != test.shape[1:]:
        raise SizesDifferError.between((splits[0].folder, train.shape), (splits[1].folder, test.shape))
    return Arrays(found.train.folder.parent.name, found.classes, *NORMALISATION, *arrays)


def load_splits(
    splits: Sequence[ImageFiles], classes: Sequence[str], size: int | None, config: DataConfig, shard: Shard
) -> list[tuple[Tensor, Tensor]]:
    """Images and targets of each split, without the broken images; see `read_images`.

    Raises:
        SizesDifferError: `size` is None, and images of a split have several.
        ValueError: broken images that are refused, or all of a class.
    """
    arrays = []
    broken: list[Broken] = []
    for split in splits:
        images, bad = read_images(split.paths, size)
        broken += [Broken(split.paths[index], reason) for index, reason in bad.items()]
        kept = torch.ones(len(split.paths), dtype=torch.bool)
        kept[list(bad)] = False
        arrays.append((images, split.targets[kept]))
    report_broken(broken, sum(len(split.paths) for split in splits), config.on_broken, warn=shard.rank == 0)
    for split, (_, targets) in zip(splits, arrays, strict=True):
        for index, name in enumerate(classes):
            if not (targets == index).any():
                raise ValueError(f"{split.folder / name}: none of its images can be read")
    return arrays
