"""`recognise`: say in words what kind of annotation file it is that is not COCO JSON."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

WANTED = "wanted COCO JSON: an object with images, annotations and categories"
SUFFIXES = {
    ".txt": "a YOLO label file; `sase-attn detect convert` makes COCO of the folder that it is in",
    ".xml": "a Pascal VOC file; `sase-attn detect convert` makes COCO of the folder that it is in",
    ".yaml": "YOLO's data.yaml; `sase-attn detect convert` makes COCO of the folder that it is in",
    ".yml": "YOLO's data.yaml; `sase-attn detect convert` makes COCO of the folder that it is in",
    ".csv": "a table (CSV)",
    ".zip": "an archive: unpack it",
    ".gz": "an archive: unpack it",
}

# Kinds of JSON files by their distinctive keys; specific kinds come before general ones.
FORMS: tuple[tuple[Callable[[Any], bool], str], ...] = (
    (lambda v: _has(v, "shapes", "imagePath"), "labelme's, a file for each image"),
    (lambda v: _has(v, "_via_img_metadata"), "a project of the VGG Image Annotator"),
    (lambda v: _any_value_has(v, "regions", "filename"), "the VGG Image Annotator's"),
    (lambda v: _first_has(v, "score", "category_id"), "COCO results: predictions, and not annotations"),
    (lambda v: _first_has(v, "image", "annotations"), "CreateML's"),
    (lambda v: _first_has(v, "data", "annotations"), "Label Studio's own; it exports COCO too"),
    (lambda v: _first_has(v, "name", "labels"), "BDD100K's (Scalabel)"),
    (lambda v: _first_has(v, "image_id", "bbox"), "the list of annotations alone, without images and categories"),
    (lambda v: _has(v, "size", "objects"), "Supervisely's, a file for each image"),
    (lambda v: _has(v, "detections", "images"), "MegaDetector's results: predictions, and not annotations"),
    (lambda v: _first_has(_part(v), "segments_info"), "COCO's for panoptic segmentation: wanted its `instances` file"),
    (lambda v: _first_has(_part(v), "caption"), "COCO's captions: wanted its `instances` file"),
    (lambda v: _has(v, "type") and v["type"] == "FeatureCollection", "GeoJSON"),
)


def recognise(value: object) -> str:
    """Words about JSON that is not COCO, which continue the text WANTED; empty if it is of no known kind."""
    for is_it, words in FORMS:
        if is_it(value):
            return f"; this looks like {words}"
    if isinstance(value, dict):
        names = ", ".join(map(str, list(value)[:5])) or "nothing"
        return f", got an object with {names[:200]}"
    return f", got {'a list' if isinstance(value, list) else type(value).__name__}"


def recognise_file(path: Path, start: bytes) -> str:
    """Words about a file that is no JSON, by its name and its first bytes."""
    text = start.lstrip()
    if text.startswith(b"<"):
        return f"; this looks like {SUFFIXES['.xml']}"
    if path.suffix.lower() in SUFFIXES:
        return f"; this looks like {SUFFIXES[path.suffix.lower()]}"
    if text.startswith(b"version https://git-lfs"):
        return "; this is a pointer of Git LFS: fetch the file itself with `git lfs pull`"
    return "" if text else "; the file is empty"


def _has(value: Any, *names: str) -> bool:
    return isinstance(value, dict) and all(name in value for name in names)


def _first_has(value: Any, *names: str) -> bool:
    return isinstance(value, list) and bool(value) and _has(value[0], *names)


def _any_value_has(value: Any, *names: str) -> bool:
    return isinstance(value, dict) and bool(value) and _has(next(iter(value.values())), *names)


def _part(value: Any) -> Any:
    return value.get("annotations") if isinstance(value, dict) else None
