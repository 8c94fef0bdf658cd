"""`find_voc`: find the annotations and images of a Pascal VOC data set."""

from pathlib import Path
from typing import NamedTuple

from sase_attn.detection.data.image_files import read_names
from sase_attn.detection.data.written_coco import SPLIT_NAMES, divide
from sase_attn.training.data.identity import listed
from sase_attn.training.data.walk import SUFFIXES

SETS = {"train": "train", "val": "val", "test": "test", "trainval": "train"}  # trainval is used if there is no train
IMAGE_FOLDERS = ("JPEGImages", "images", ".")


class VocFile(NamedTuple):
    """An annotation file, and the folders in which its image may lie."""

    xml: Path
    folders: tuple[Path, ...]

    def image_named(self, name: str) -> Path | None:
        """The image of this name, otherwise the one named like the annotation file; None if there is none."""
        last = name.replace("\\", "/").rsplit("/", 1)[-1]
        names = [last] if last and last not in (".", "..") else []
        names += [self.xml.stem + suffix for lower in SUFFIXES for suffix in (lower, lower.upper())]
        return next((folder / name for folder in self.folders for name in names if (folder / name).is_file()), None)


def is_voc(folder: Path) -> bool:
    """Whether a folder has annotation files where VOC or common tools put them."""
    return folder.is_dir() and any(
        True for pattern in ("Annotations/*.xml", "*/*.xml", "*.xml") for _ in folder.glob(pattern)
    )


def find_voc(folder: Path, val_share: float | None = None) -> dict[str, list[VocFile]]:
    """The annotation files of each split.

    Raises:
        ValueError: there are none, or no splits and no `val_share`.
        OSError: a list of images cannot be read.
    """
    annotations = folder / "Annotations"
    if any(annotations.glob("*.xml")):
        folders = tuple(folder / name for name in IMAGE_FOLDERS if (folder / name).is_dir())
        paths = _sets(folder) or divide(sorted(annotations.glob("*.xml")), val_share, folder)
        return {split: [VocFile(path, folders) for path in files] for split, files in paths.items()}
    splits = {}
    for path in sorted(folder.iterdir()):
        if path.is_dir() and path.name in SPLIT_NAMES and is_voc(path):
            inner = path / "Annotations" if (path / "Annotations").is_dir() else path
            folders = tuple(path / name for name in IMAGE_FOLDERS if (path / name).is_dir())
            splits[SPLIT_NAMES[path.name]] = [VocFile(xml, folders) for xml in sorted(inner.glob("*.xml"))]
    if splits:
        return splits
    inside = sorted(path.parent.name for path in folder.glob("*/Annotations"))
    if inside:
        raise ValueError(f"{folder} has data sets inside: convert {listed(inside)} each")
    flat = sorted(folder.glob("*.xml"))
    if not flat:
        raise ValueError(f"{folder} has no Annotations/*.xml, and no train/*.xml and val/*.xml")
    divided = divide(flat, val_share, folder)
    return {split: [VocFile(path, (folder,)) for path in files] for split, files in divided.items()}


def _sets(folder: Path) -> dict[str, list[Path]]:
    """The files that ImageSets/Main/<split>.txt lists, one name per line; `trainval` is used if there is no `train`."""
    found: dict[str, list[Path]] = {}
    for name, split in SETS.items():
        for file in (folder / "ImageSets" / "Main" / f"{name}.txt", folder / "ImageSets" / f"{name}.txt"):
            if file.is_file() and split not in found:
                names = [line.split()[0] for line in read_names(file)]
                found[split] = [folder / "Annotations" / f"{name}.xml" for name in names]
    return found
