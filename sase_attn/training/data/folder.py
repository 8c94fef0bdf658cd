"""Image folders: DIR/train/<class>/* and DIR/val/<class>/* (or validation, or test), with images at any depth."""

import os
from dataclasses import dataclass
from pathlib import Path

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".gif")
TEST_SPLITS = ("val", "validation", "test")


@dataclass(frozen=True)
class ImageFiles:
    """The images of a split, class by class and in the order of their names, with their class numbers."""

    folder: Path
    paths: list[Path]
    targets: list[int]


def scan(folder: Path) -> tuple[tuple[str, ...], tuple[ImageFiles, ImageFiles]]:
    """The classes, and the files of the training and the test split.

    Raises:
        FileNotFoundError: a split is missing.
        ValueError: the splits have no classes or different ones, or a class has no images.
    """
    found = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
    test = next((name for name in TEST_SPLITS if name in found), None)
    if "train" not in found or test is None:
        wanted = "train/" if "train" not in found else "val/, validation/ or test/"
        raise FileNotFoundError(f"{folder} has no {wanted} with a folder of images a class; it has {_listed(found)}")
    classes = {split: _class_folders(folder / split) for split in ("train", test)}
    for split, other in (("train", test), (test, "train")):
        if missing := sorted(set(classes[other]) - set(classes[split])):
            raise ValueError(f"classes differ: {_listed(missing)} in {folder / other} but not in {folder / split}")
    names = classes["train"]
    return tuple(names), (_image_files(folder / "train", names), _image_files(folder / test, names))


def _class_folders(split: Path) -> list[str]:
    names = sorted(entry.name for entry in os.scandir(split) if entry.is_dir() and not entry.name.startswith("."))
    if not names:
        raise ValueError(f"{split} holds no class folders; wanted {split}/<class>/*.jpg")
    return names


def _image_files(split: Path, classes: list[str]) -> ImageFiles:
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
    return ImageFiles(split, paths, targets)


def _listed(names: list[str]) -> str:
    return ", ".join(names[:5]) + f" and {len(names) - 5} more" * (len(names) > 5) if names else "no folders"
