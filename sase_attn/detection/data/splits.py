"""`find_splits`: find the images and annotations in a folder, in the common layouts of tools."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from sase_attn.detection.config import DetectionConfig
from sase_attn.quoting import command
from sase_attn.training.data.identity import listed

SPLITS = {"train": ("train",), "val": ("val", "valid", "validation", "test")}
OWN_FILES = ("_annotations.coco.json", "annotations.json")  # files in the folder of a split itself
LAYOUTS = ("{name}.json", "annotations/instances_{name}*.json", "annotations/{name}.json", "instances_{name}*.json")
OTHERS = {"Pascal VOC": ("Annotations/*.xml", "train/*.xml", "*.xml"), "YOLO": ("*.yaml", "*.yml", "classes.txt")}
WANTED = "NAME.json and NAME/, annotations/instances_NAME2017.json and NAME2017/, or NAME/_annotations.coco.json"


class Split(NamedTuple):
    """A folder of images and their annotation file."""

    images: Path
    annotations: Path


@dataclass(frozen=True)
class Splits:
    """The split that a detector learns from, and the one it is evaluated on."""

    train: Split
    val: Split


def find_splits(config: DetectionConfig) -> Splits:
    """The splits that a configuration names; its fields `train_images`, … take precedence over the folder `data`.

    Raises:
        FileNotFoundError: a file or folder does not exist; the message says what was looked for.
        ValueError: a split has several annotation files, or both have the same file.
    """
    train = find_split(config.data, "train", config.train_images, config.train_annotations)
    val = find_split(config.data, "val", config.val_images, config.val_annotations)
    if train.annotations.samefile(val.annotations):
        raise ValueError(f"val_annotations: {val.annotations} is what is trained on: wanted other images to test on")
    return Splits(train, val)


def find_split(data: str, split: str, images: str | None = None, annotations: str | None = None) -> Split:
    """One split, "train" or "val". Raises FileNotFoundError or ValueError as `find_splits` does."""
    if annotations is None:
        file = _annotations_in(data, split)
    else:
        file = Path(annotations).expanduser()
        if not file.is_file():
            raise FileNotFoundError(f"{split}_annotations: no such file: {file}")
    folder = _images_of(file, Path(data).expanduser() if data else file.parent) if images is None else Path(images)
    folder = folder.expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(f"{split}_images: no such folder: {folder}")
    return Split(folder, file)


def _annotations_in(data: str, split: str) -> Path:
    root = Path(data).expanduser()
    if not data:
        raise FileNotFoundError(f"data: wanted a folder, or {split}_annotations and {split}_images")
    if not root.is_dir():
        raise FileNotFoundError(f"data: no such folder: {root}")
    for name in SPLITS[split]:
        for pattern in [*LAYOUTS, *(f"{{name}}/{own}" for own in OWN_FILES)]:
            files = sorted(path for path in root.glob(pattern.format(name=name)) if path.is_file())
            if len(files) > 1:
                names = listed([str(path.relative_to(root)) for path in files])
                raise ValueError(f"{root} has several annotation files: {names}; choose by {split}_annotations")
            if files:
                return files[0]
    has = listed(sorted(path.name for path in root.iterdir())) or "nothing"
    names = ", ".join(SPLITS[split])
    raise FileNotFoundError(f"{root} has no annotations of {names}: wanted {WANTED}; it has {has}{_hint(root)}")


def _hint(root: Path) -> str:
    """Advice for a data set in another format."""
    for kind, patterns in OTHERS.items():
        if any(True for pattern in patterns for _ in root.glob(pattern)):
            return f"; this looks like {kind}: `{command('detect', 'convert', root)}` makes COCO of it"
    return ""


def _images_of(file: Path, root: Path) -> Path:
    """The folder of an annotation file's images: the one that is named like it, otherwise the file's own folder."""
    if file.name in OWN_FILES:
        return file.parent / "images" if (file.parent / "images").is_dir() else file.parent
    name = file.stem.removeprefix("instances_")
    bases = dict.fromkeys([root, file.parent, file.parent.parent])
    named = [base / inner for base in bases for inner in (name, f"images/{name}")]
    plain = [base / "images" for base in bases]
    return next((folder for folder in [*named, *plain] if folder.is_dir()), file.parent)
