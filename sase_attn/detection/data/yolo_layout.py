"""`find_yolo`: find the images, labels and class names of a YOLO data set."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sase_attn.detection.data.image_files import read_names
from sase_attn.detection.data.written_coco import SPLIT_NAMES, divide
from sase_attn.quoting import one_line
from sase_attn.training.data.walk import Skipped, images_below

NAME_FILES = ("classes.txt", "obj.names", "labels.txt")


@dataclass(frozen=True)
class YoloLayout:
    """Names of classes by number, images of each split, and whether labels have keypoints after the box."""

    classes: dict[int, str]
    splits: dict[str, list[Path]]
    keypoints: bool = False


def is_yolo(folder: Path) -> bool:
    """Whether a folder has the files of YOLO."""
    return _yaml_of(folder) is not None or any(_names_file(folder))


def find_yolo(folder: Path, val_share: float | None = None) -> YoloLayout:
    """Read `data.yaml`, or `classes.txt` with `images/`, of a folder.

    Args:
        folder: the folder of the data.
        val_share: share of the images to validate on, if there are no splits.

    Raises:
        ValueError: no names of classes, a YAML file that is not YOLO's, or no splits and no `val_share`.
        FileNotFoundError: a folder or a list of images that the YAML file names does not exist.
    """
    file = _yaml_of(folder)
    if file is not None:
        return _from_yaml(file)
    names = next(_names_file(folder), None)
    if names is None:
        raise ValueError(f"{folder} has no data.yaml, and no {', '.join(NAME_FILES)} with the names of its classes")
    text = names.read_text(encoding="utf-8-sig", errors="replace")
    lines = [one_line(line) for line in text.splitlines()]
    classes = {number: name for number, name in enumerate(lines) if name}
    root = folder / "images" if (folder / "images").is_dir() else folder
    splits = {
        SPLIT_NAMES[path.name]: _below(path)
        for path in sorted(root.iterdir())
        if path.is_dir() and path.name in SPLIT_NAMES
    }
    if not splits:
        for path in sorted(folder.iterdir()):
            if path.is_dir() and path.name in SPLIT_NAMES:
                splits[SPLIT_NAMES[path.name]] = _below(path)
    return YoloLayout(classes, splits or divide(_below(root), val_share, folder))


def label_file(image: Path) -> Path:
    """The path of an image's labels: in `labels` if the image is in `images`, otherwise beside it."""
    parts = list(image.parts)
    for place in range(len(parts) - 2, -1, -1):
        if parts[place] == "images":
            parts[place] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def _from_yaml(file: Path) -> YoloLayout:
    try:
        value = yaml.safe_load(file.read_bytes())
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{file}: no YAML: {one_line(error)}") from None
    if not isinstance(value, dict):
        raise ValueError(f"{file}: wanted names, train and val, got {type(value).__name__}")
    names = value.get("names")
    listed = dict(enumerate(names)) if isinstance(names, list) else names
    if not isinstance(listed, dict) or not listed or not all(type(number) is int for number in listed):
        raise ValueError(f"{file}: wanted the names of the classes, got {one_line(names)[:60]}")
    classes = {number: one_line(name) for number, name in sorted(listed.items())}
    root = _root(file, value.get("path"))
    splits = {
        split: [path for entry in _entries(value[key], file, key) for path in _images(root, file.parent, entry, key)]
        for key, split in SPLIT_NAMES.items()
        if value.get(key)
    }
    if not splits:
        raise ValueError(f"{file}: wanted train and val, got {', '.join(map(one_line, value))[:200]}")
    return YoloLayout(classes, splits, keypoints="kpt_shape" in value)


def _root(file: Path, path: Any) -> Path:
    """The folder that the YAML file names, relative to the file; the file's own if that is on another machine."""
    named = file.parent / path if isinstance(path, str) else file.parent
    return named if named.is_dir() else file.parent


def _entries(value: Any, file: Path, key: str) -> list[str]:
    entries = value if isinstance(value, list) else [value]
    if not all(isinstance(entry, str) for entry in entries):
        raise ValueError(f"{file}: {key}: wanted a folder, a list of images or several, got {one_line(value)[:60]}")
    return entries


def _images(root: Path, beside: Path, entry: str, key: str) -> list[Path]:
    """The images of a folder, or of a text file with one path per line."""
    upwards = entry
    while upwards.startswith("../"):
        upwards = upwards[3:]  # Roboflow writes ../train/images for train/images
    for place in dict.fromkeys((root / entry, beside / entry, root / upwards, beside / upwards)):
        if place.is_dir():
            return _below(place)
        if place.is_file() and place.suffix == ".txt":
            return [root / line for line in read_names(place)]
    raise FileNotFoundError(f"{key}: no such folder or list of images: {root / entry}")


def _below(folder: Path) -> list[Path]:
    return [folder / file.name for file in images_below(folder, Skipped())]


def _yaml_of(folder: Path) -> Path | None:
    if folder.is_file():
        return folder
    files = sorted(path for path in folder.iterdir() if path.suffix in (".yaml", ".yml") and path.is_file())
    named = [path for path in files if path.stem in ("data", "dataset")] or files
    return named[0] if len(named) == 1 else None


def _names_file(folder: Path) -> Any:
    places = (folder, folder / "labels")
    return (place / name for name in NAME_FILES for place in places if (place / name).is_file())
