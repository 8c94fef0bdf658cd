"""Writing of COCO JSON files by conversions: one for each split, either all or none."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from sase_attn.detection.data.report import Finding
from sase_attn.files import json_text, write_atomically

SPLIT_NAMES = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


def name_from(folder: Path, path: Path) -> str:
    """The name of an image in a COCO file in a folder: relative to the folder, if both are on one drive."""
    try:
        name = os.path.relpath(path.absolute(), folder.absolute())
    except ValueError:
        name = str(path.absolute())
    return name.replace(os.sep, "/")


@dataclass
class CocoValue:
    """The content of a COCO file that grows image by image.

    Args:
        folder: the future folder of the file, to which the names of images are relative.
        categories: names of the categories by id.
    """

    folder: Path
    categories: dict[int, str]
    images: list[dict[str, Any]] = field(default_factory=list)
    annotations: list[dict[str, Any]] = field(default_factory=list)

    def add_image(self, path: Path, width: int, height: int) -> int:
        """Add an image, which is not moved, and return its id."""
        name = name_from(self.folder, path)
        self.images.append({"id": len(self.images) + 1, "file_name": name, "width": width, "height": height})
        return len(self.images)

    def add_object(self, image_id: int, category_id: int, box: list[float], **more: Any) -> None:
        """Add an object with a box x, y, width, height; `more` are further fields of COCO."""
        values = {"area": box[2] * box[3], "iscrowd": 0} | more
        number = len(self.annotations) + 1
        self.annotations.append({"id": number, "image_id": image_id, "category_id": category_id, "bbox": box, **values})

    def to_json(self) -> str:
        """The text of the file."""
        categories = [{"id": number, "name": name} for number, name in self.categories.items()]
        value = {"images": self.images, "annotations": self.annotations, "categories": categories}
        return json_text(value, indent=None)


@dataclass(frozen=True)
class Conversion:
    """The files that a conversion has written, by split, and its report: findings, then other lines."""

    files: dict[str, Path]
    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()


def write_splits(output: Path, splits: dict[str, CocoValue]) -> dict[str, Path]:
    """Write OUTPUT/<split>.json of each split.

    Raises:
        ValueError: there are no images. FileExistsError: one of the files exists already.
        OSError: a file cannot be written.
    """
    if not any(value.images for value in splits.values()):
        raise ValueError("no images with labels were found")
    files = {name: output / f"{name}.json" for name, value in splits.items() if value.images}
    for path in files.values():
        if path.exists():
            raise FileExistsError(f"{path} exists: remove it, or name another folder with -o")
    output.mkdir(parents=True, exist_ok=True)
    for name, path in files.items():
        write_atomically(path, splits[name].to_json())
    return files


def divide(paths: list[Path], share: float | None, folder: Path) -> dict[str, list[Path]]:
    """Divide images without splits into train and val, at random but the same way each time.

    Raises:
        ValueError: `share`, the share of validation images, is not given, or leaves one of the splits empty.
    """
    if share is None:
        raise ValueError(
            f"{folder} does not say what is to train and what to validate on: give --val-share, such as 0.2"
        )
    count = round(share * len(paths))
    if not 0 < count < len(paths):
        raise ValueError(f"val_share: wanted images on both sides, got {count} of {len(paths)} to validate on")
    order = torch.randperm(len(paths), generator=torch.Generator().manual_seed(0)).tolist()
    return {
        "train": [paths[place] for place in sorted(order[count:])],
        "val": [paths[place] for place in sorted(order[:count])],
    }
