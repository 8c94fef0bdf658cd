"""`open_folder`: loaders of an image folder, in memory where it fits, else from the files."""

from pathlib import Path

import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from sase_attn.training.data.config import DataConfig
from sase_attn.training.data.folder import ImageFiles, scan
from sase_attn.training.data.in_memory import CHANNELS, MEMORY_BYTES, memory_loaders
from sase_attn.training.data.loader import DataInfo, SubsetLoader
from sase_attn.training.data.on_disk import CROP_PCT, file_loaders
from sase_attn.training.data.order import Shard
from sase_attn.training.data.reading import SizesDifferError, read_image, read_images, report_broken
from sase_attn.training.data.sets import Arrays

NORMALISATION = (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)


def open_folder(folder: Path, config: DataConfig, shard: Shard) -> tuple[SubsetLoader, SubsetLoader, DataInfo]:
    """Open an image folder, in memory if it is small enough and loses nothing by it, else file by file.

    In memory (up to 1 GiB) are images of one size that is not above the one to be served; and for augment "cifar" or
    "none" images of any size, which are fitted to it once: shorter side resized, centre cropped.

    Raises:
        FileNotFoundError: a split is missing.
        ValueError: no images in a class, classes that differ, broken images, or images of several sizes and no `size`.
    """
    classes, splits = scan(folder)
    paths = [path for split in splits for path in split.paths]
    first = next((image for image in map(read_image, paths) if image is not None), None)
    if first is None:
        raise ValueError(f"{folder}: none of {len(paths)} images can be read")
    size, (width, height) = config.size, first.size
    ready = size is None or (width == height and width <= size)
    if ready and CHANNELS * len(paths) * width * height <= MEMORY_BYTES:
        try:
            return memory_loaders(_load(folder, classes, splits, None, config, shard), config, shard)
        except SizesDifferError:
            if size is None:
                raise
    elif size is None:
        raise ValueError(
            f"{folder}: {len(paths)} images like {paths[0]} are too many for memory; give the size to serve them at"
        )
    if config.augment != "imagenet" and CHANNELS * len(paths) * size * size <= MEMORY_BYTES:
        return memory_loaders(_load(folder, classes, splits, size, config, shard), config, shard)
    counts = len(splits[0].paths), len(splits[1].paths)
    crop_pct = CROP_PCT if config.augment == "imagenet" else 1.0
    info = DataInfo(folder.name, classes, CHANNELS, (size, size), *NORMALISATION, *counts, crop_pct)
    train, test = ((split.paths, split.targets) for split in splits)
    return *file_loaders(train, test, info, config, shard), info


def _load(
    folder: Path,
    classes: tuple[str, ...],
    splits: tuple[ImageFiles, ImageFiles],
    size: int | None,
    config: DataConfig,
    shard: Shard,
) -> Arrays:
    """Both splits in memory, without the broken images. Raises SizesDifferError, or ValueError for broken ones."""
    arrays = []
    broken = []
    for split in splits:
        images, bad = read_images(split.paths, size)
        broken += [split.paths[index] for index in bad]
        unreadable = set(bad)
        targets = torch.tensor([target for index, target in enumerate(split.targets) if index not in unreadable])
        arrays.append((images, targets))
    report_broken(broken, sum(len(split.paths) for split in splits), config.on_broken, warn=shard.rank == 0)
    for split, (_, targets) in zip(splits, arrays, strict=True):
        for index, name in enumerate(classes):
            if not (targets == index).any():
                raise ValueError(f"{split.folder / name}: none of its images can be read")
    (train, _), (test, _) = arrays
    if train.shape[1:] != test.shape[1:]:
        raise SizesDifferError.between((splits[0].folder, train.shape), (splits[1].folder, test.shape))
    return Arrays(folder.name, classes, *NORMALISATION, *arrays)
