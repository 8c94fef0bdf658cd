"""Parse COCO JSON into plain records. Its structure is checked; the values of boxes and masks are not."""

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from sase_attn.detection.data.formats import WANTED, recognise, recognise_file
from sase_attn.quoting import one_line


class ImageRecord(NamedTuple):
    """An image as listed in the file; a size that is not given is 0."""

    id: int
    name: str
    width: int
    height: int


@dataclass(frozen=True)
class CocoRecords:
    """The content of an annotation file: images, names of categories by id, and unchecked annotations.

    `same_names` describes the categories that are left out because another one has the same name.
    """

    images: list[ImageRecord]
    categories: dict[int, str]
    annotations: list[dict[str, Any]]
    same_names: list[str]


def parse_coco(path: Path) -> CocoRecords:
    """Read an annotation file.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file is no COCO JSON; the message begins with its name, and says what it looks like.
    """
    try:
        content = path.read_bytes()
    except IsADirectoryError:
        raise ValueError(f"{path}: {WANTED}, got a folder") from None
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        looks = recognise_file(path, content[:200])
        problem = looks or f": {'too many levels' if isinstance(error, RecursionError) else error}"
        raise ValueError(f"{path}: {WANTED}{problem if looks else f', got no JSON{problem}'}") from None
    del content
    try:
        return _records(value)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _records(value: Any) -> CocoRecords:
    lists = [value.get(name) if isinstance(value, dict) else None for name in ("images", "annotations", "categories")]
    if not all(isinstance(part, list) for part in lists) or recognise(value).startswith(";"):
        raise ValueError(f"{WANTED}{recognise(value)}")
    images, annotations, categories = (_objects(part, name) for part, name in zip(
        lists, ("images", "annotations", "categories"), strict=True
    ))  # fmt: skip
    if not images or not categories:
        raise ValueError(f"wanted images and categories, got {len(images)} images and {len(categories)} categories")
    names, same_names = _each_name_once(_names(categories), annotations)
    return CocoRecords([_image(image, place) for place, image in enumerate(images)], names, annotations, same_names)


def _objects(part: Any, name: str) -> list[dict[str, Any]]:
    for place, item in enumerate(part):
        if not isinstance(item, dict):
            raise ValueError(f"{name}[{place}]: wanted an object, got {one_line(item)[:60]}")
    return part


def _image(image: dict[str, Any], place: int) -> ImageRecord:
    where = f"images[{place}]"
    name = image.get("file_name")
    if not isinstance(name, str) or not name or "\0" in name or not _can_be_a_file(name):
        hint = "; LVIS has coco_url: the name is its last part" if "coco_url" in image else ""
        raise ValueError(f"{where}: wanted file_name, the name of a file, got {one_line(name)[:60]}{hint}")
    width, height = (_whole(image.get(side) or 0, f"{where}.{side}") for side in ("width", "height"))
    if min(width, height) < 0:
        raise ValueError(f"{where}: wanted a width and a height above 0, got {width}x{height}")
    return ImageRecord(_whole(image.get("id"), f"{where}.id"), name, width, height)


def _can_be_a_file(name: str) -> bool:
    try:
        os.fsencode(name)
    except UnicodeEncodeError:  # a lone surrogate, which JSON can hold
        return False
    return True


def _names(categories: list[dict[str, Any]]) -> dict[int, str]:
    names: dict[int, str] = {}
    for place, category in enumerate(categories):
        number = _whole(category.get("id"), f"categories[{place}].id")
        name = one_line(category.get("name", ""))
        if not name or category.get("name") is None:
            raise ValueError(f"categories[{place}]: wanted a name, got {one_line(category)[:60]}")
        if number in names and names[number] != name:
            raise ValueError(f"categories {names[number]!r} and {name!r} have one id, {number}")
        names[number] = name
    return dict(sorted(names.items()))


def _each_name_once(names: dict[int, str], annotations: list[dict[str, Any]]) -> tuple[dict[int, str], list[str]]:
    """Of categories with the same name, keep the one with objects, or with the largest id; also list the others."""
    used = {whole_or_none(annotation.get("category_id")) for annotation in annotations}
    by_name: dict[str, int] = {}
    left_out = []
    for number, name in names.items():
        other = by_name.get(name)
        if other is not None and number in used and other in used:
            raise ValueError(f"two categories are called {name!r}, ids {other} and {number}; rename one")
        if other is not None and other in used:
            left_out.append(f"{name}, id {number}")
            continue
        if other is not None:
            left_out.append(f"{name}, id {other}")
        by_name[name] = number
    return {number: name for number, name in names.items() if by_name[name] == number}, left_out


def whole_or_none(value: object) -> int | None:
    """A value as a whole number, also if it is written as 1.0; None for any other value."""
    if type(value) is int:
        return value if abs(value) < 2**63 else None
    if isinstance(value, float) and abs(value) < 2**53 and value == math.floor(value):
        return int(value)
    return None


def _whole(value: object, where: str) -> int:
    number = whole_or_none(value)
    if number is None:
        raise ValueError(f"{where}: wanted a whole number, got {one_line(repr(value))[:60]}")
    return number
