"""Image folders: DIR/train/<class>/* and DIR/val/<class>/* (or validation, or test), with images at any depth.

To evaluate, DIR/val/<class>/* is enough, or DIR/<class>/*.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from sase_attn.training.data.identity import DataIdentity, FilesDigest, class_differences, listed
from sase_attn.training.data.paths import Paths
from sase_attn.training.data.walk import SUFFIXES, Skipped, Walk, class_names

TEST_SPLITS = ("val", "validation", "test")


@dataclass(frozen=True)
class ImageFiles:
    """The images of a split, sorted by class and name, with their class numbers (int64)."""

    folder: Path
    paths: Paths
    targets: Tensor


@dataclass(frozen=True)
class ImageFolder:
    """The classes of an image folder, the files of both splits, and the identity of the data."""

    classes: tuple[str, ...]
    train: ImageFiles
    test: ImageFiles
    identity: DataIdentity


def scan(folder: Path, *, warn: bool = True) -> ImageFolder:
    """Find the images of a folder; with `warn`, which one rank should set, warn in one line of what is left out.

    Raises:
        FileNotFoundError: a split is missing.
        ValueError: the splits are one folder, have no classes or different ones; or a class has no images, or is a link
            into the data.
    """
    found = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
    test = next((name for name in TEST_SPLITS if name in found), None)
    if "train" not in found or test is None:
        wanted = "train/" if "train" not in found else "val/, validation/ or test/"
        has = listed(found) or "no folders"
        raise FileNotFoundError(f"{folder} has no {wanted} with a folder of images a class; it has {has}")
    if (folder / "train").samefile(folder / test):
        raise ValueError(f"{folder / test} is the folder train/ itself: wanted other images to test on")
    skipped = Skipped()
    try:
        return _scan(folder, folder / "train", folder / test, skipped)
    finally:
        if warn:
            skipped.warn(folder)


@dataclass(frozen=True)
class ClassFolders:
    """One split of test images: the names of its classes, its images, and the digest of these."""

    classes: tuple[str, ...]
    files: ImageFiles
    digest: str


def scan_classes(folder: Path, *, warn: bool = True) -> ClassFolders:
    """Find the test images of a folder, which may lack training images, or hold the folders of the classes itself.

    Raises:
        FileNotFoundError: there are only training images.
        ValueError: no classes; or a class has no images, or is a link into the data.
    """
    skipped = Skipped()
    try:
        split = _test_split(folder)
        names = class_names(split, skipped)
        if not names:
            raise ValueError(
                f"{split} holds no class folders; wanted {split}/<class>/*.jpg (sase-attn predict takes images alone)"
            )
        files, digest = _image_files(split, tuple(names), Walk(folder, {split: names}, skipped))
        return ClassFolders(tuple(names), files, digest)
    finally:
        if warn:
            skipped.warn(folder)


def _test_split(folder: Path) -> Path:
    """The folder that holds the classes: a split, or the folder itself."""
    found = class_names(folder, Skipped())
    split = next((name for name in TEST_SPLITS if name in found), None)
    if split is None and "train" in found:
        raise FileNotFoundError(
            f"{folder} has train/, and no {', '.join(f'{name}/' for name in TEST_SPLITS)} to test on; "
            f"name {folder / 'train'} to evaluate on what was trained on"
        )
    if split is None or ("train" not in found and not class_names(folder / split, Skipped())):
        return folder  # a class may be called "test"
    return folder / split


def _scan(folder: Path, train: Path, test: Path, skipped: Skipped) -> ImageFolder:
    splits = {split: class_names(split, skipped) for split in (train, test)}
    for split, names in splits.items():
        if not names:
            raise ValueError(f"{split} holds no class folders; wanted {split}/<class>/*.jpg")
    if splits[train] != splits[test]:
        raise ValueError(class_differences(splits[train], splits[test], str(train), str(test)))
    walk = Walk(folder, splits, skipped)
    classes = tuple(splits[train])
    (first, train_digest), (second, test_digest) = (_image_files(split, classes, walk) for split in (train, test))
    counts = len(first.paths), len(second.paths)
    return ImageFolder(classes, first, second, DataIdentity(classes, *counts, train_digest, test_digest))


def _image_files(split: Path, classes: tuple[str, ...], walk: Walk) -> tuple[ImageFiles, str]:
    """The images of a split, and the digest of their names and sizes."""
    digest = FilesDigest()
    counts: list[int] = []

    def names() -> Iterator[str]:
        for name in classes:
            files = walk.files(split, name)
            if not files:
                raise ValueError(f"{split / name} holds no images; wanted {', '.join(SUFFIXES)}")
            counts.append(len(files))
            for file in files:
                digest.add(file.name, file.size)
                yield file.name

    paths = Paths(split, names())
    targets = torch.arange(len(classes)).repeat_interleave(torch.tensor(counts))
    return ImageFiles(split, paths, targets), str(digest)
