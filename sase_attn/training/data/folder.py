"""Image folders: DIR/train/<class>/* and DIR/val/<class>/* (or validation, or test), with images at any depth."""

import os
from dataclasses import dataclass
from pathlib import Path

import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from sase_attn.training.data.config import DataConfig, DataInfo, PartLoader
from sase_attn.training.data.in_memory import CHANNELS, MEMORY_BYTES, memory_loaders
from sase_attn.training.data.on_disk import CROP_PCT, file_loaders
from sase_attn.training.data.order import Share
from sase_attn.training.data.reading import SizesDifferError, read, read_all, report_broken
from sase_attn.training.data.sets import Arrays

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".gif")
NORMALISATION = (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
TEST_SPLITS = ("val", "validation", "test")


@dataclass(frozen=True)
class Files:
    """The images of a split, class by class and in the order of their names, with their class numbers."""

    folder: Path
    paths: list[Path]
    targets: list[int]


def open_folder(folder: Path, config: DataConfig, share: Share) -> tuple[PartLoader, PartLoader, DataInfo]:
    """Open an image folder, in memory if it is small enough and loses nothing by it, else file by file.

    In memory (up to 1 GiB) are images of one size that is not above the one to be served; and for augment "cifar" or
    "none" images of any size, which are fitted to it once: shorter side resized, centre cropped.

    Raises:
        FileNotFoundError: a split is missing.
        ValueError: no images in a class, classes that differ, broken images, or images of several sizes and no `size`.
    """
    classes, splits = scan(folder)
    names = [path for split in splits for path in split.paths]
    first = next((image for image in map(read, names) if image is not None), None)
    if first is None:
        raise ValueError(f"{folder}: none of {len(names)} images can be read")
    size, (width, height) = config.size, first.size
    ready = size is None or (width == height and width <= size)
    if ready and CHANNELS * len(names) * width * height <= MEMORY_BYTES:
        try:
            return memory_loaders(load(folder, classes, splits, None, config, share), config, share)
        except SizesDifferError:
            if size is None:
                raise
    elif size is None:
        raise ValueError(
            f"{folder}: {len(names)} images like {names[0]} are too many for memory; give the size to serve them at"
        )
    if config.augment != "imagenet" and CHANNELS * len(names) * size * size <= MEMORY_BYTES:
        return memory_loaders(load(folder, classes, splits, size, config, share), config, share)
    counts = len(splits[0].paths), len(splits[1].paths)
    crop_pct = CROP_PCT if config.augment == "imagenet" else 1.0
    info = DataInfo(folder.name, classes, CHANNELS, (size, size), *NORMALISATION, *counts, crop_pct)
    train, test = ((split.paths, split.targets) for split in splits)
    return *file_loaders(train, test, info, config, share), info


def load(
    folder: Path,
    classes: tuple[str, ...],
    splits: tuple[Files, Files],
    size: int | None,
    config: DataConfig,
    share: Share,
) -> Arrays:
    """Both splits in memory, without the broken images. Raises SizesDifferError, see `read_all`, or ValueError."""
    arrays = []
    broken = []
    for split in splits:
        images, bad = read_all(split.paths, size)
        broken += [split.paths[index] for index in bad]
        left = set(bad)
        targets = torch.tensor([target for index, target in enumerate(split.targets) if index not in left])
        arrays.append((images, targets))
    report_broken(broken, sum(len(split.paths) for split in splits), config.on_broken, warn=share.rank == 0)
    for split, (_, targets) in zip(splits, arrays, strict=True):
        for index, name in enumerate(classes):
            if not (targets == index).any():
                raise ValueError(f"{split.folder / name}: none of its images can be read")
    (train, _), (test, _) = arrays
    if train.shape[1:] != test.shape[1:]:
        raise SizesDifferError.between((splits[0].folder, train.shape), (splits[1].folder, test.shape))
    return Arrays(folder.name, classes, *NORMALISATION, *arrays)


def scan(folder: Path) -> tuple[tuple[str, ...], tuple[Files, Files]]:
    """The classes, and the files of the training and the test split. Raises as `open_folder` does."""
    found = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
    test = next((name for name in TEST_SPLITS if name in found), None)
    if "train" not in found or test is None:
        wanted = "train/" if "train" not in found else "val/, validation/ or test/"
        raise FileNotFoundError(f"{folder} has no {wanted} with a folder of images a class; it has {_listed(found)}")
    classes = {split: _folders(folder / split) for split in ("train", test)}
    for split, other in (("train", test), (test, "train")):
        if missing := sorted(set(classes[other]) - set(classes[split])):
            raise ValueError(f"classes differ: {_listed(missing)} in {folder / other} but not in {folder / split}")
    names = classes["train"]
    return tuple(names), (_files(folder / "train", names), _files(folder / test, names))


def _folders(split: Path) -> list[str]:
    names = sorted(entry.name for entry in os.scandir(split) if entry.is_dir() and not entry.name.startswith("."))
    if not names:
        raise ValueError(f"{split} holds no class folders; wanted {split}/<class>/*.jpg")
    return names


def _files(split: Path, classes: list[str]) -> Files:
    paths: list[Path] = []
    targets: list[int] = []
    for target, name in enumerate(classes):
        images = sorted(
            Path(where, file)
            for where, _, files in os.walk(split / name, followlinks=True)
            for file in files
            if file.lower().endswith(SUFFIXES) and not file.startswith(".")
        )
        if not images:
            raise ValueError(f"{split / name} holds no images; wanted {', '.join(SUFFIXES)}")
        paths += images
        targets += [target] * len(images)
    return Files(split, paths, targets)


def _listed(names: list[str]) -> str:
    return ", ".join(names[:5]) + f" and {len(names) - 5} more" * (len(names) > 5) if names else "no folders"
