"""`convert_voc`: the boxes of a Pascal VOC data set as COCO JSON; images stay where they are.

VOC counts pixels from 1, and its boxes end with the last pixel: xmin…xmax are the columns xmin - 1 to xmax. Many tools
write VOC files with corners counted from 0. If any box begins at 0, all files are assumed to count so.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from sase_attn.detection.data.report import Findings
from sase_attn.detection.data.voc_layout import VocFile, find_voc
from sase_attn.detection.data.written_coco import CocoValue, Conversion, write_splits
from sase_attn.quoting import one_line
from sase_attn.training.data.image_file import UnreadableImageError, check_header

DIFFICULT = ("ignore", "keep")


class _Object(NamedTuple):
    """An object of a VOC file: its name, the corners as written, and whether it is marked as difficult."""

    name: str
    corners: tuple[float, float, float, float]
    difficult: bool


@dataclass(frozen=True)
class _Annotated:
    image: Path
    size: tuple[int, int]
    objects: list[_Object]


def convert_voc(
    folder: Path,
    output: Path | None = None,
    *,
    difficult: str = "ignore",
    first_pixel: int | None = None,
    val_share: float | None = None,
) -> Conversion:
    """Write OUTPUT/train.json, val.json and test.json of a Pascal VOC data set.

    The categories are the names in the files, in alphabetical order, with ids from 1.

    Args:
        folder: a folder with Annotations/*.xml, JPEGImages/ and ImageSets/Main/<split>.txt; or with train/*.xml and
            val/*.xml.
        output: folder of the JSON files; by default that of the data.
        difficult: "ignore" makes difficult objects crowds: in evaluation they are neither right nor wrong, as in VOC's
            own. They are no targets of training, so their pixels may be learned as background. "keep" treats them as
            other objects.
        first_pixel: number of the first pixel in the files; by default 1, or 0 if a box begins there.
        val_share: share of the images to validate on, if there are no splits.

    Raises:
        ValueError: there are no such files or no splits, or an argument is invalid.
        FileExistsError: a JSON file exists already. OSError: a file cannot be read or written.
    """
    if difficult not in DIFFICULT or first_pixel not in (None, 0, 1):
        raise ValueError(f"wanted difficult {DIFFICULT} and first_pixel 0 or 1, got {difficult!r} and {first_pixel!r}")
    findings = Findings()
    read = {name: list(_read(files, findings)) for name, files in find_voc(folder, val_share).items()}
    objects = [item for split in read.values() for image in split for item in image.objects]
    names = sorted({item.name for item in objects})
    first = first_pixel
    if first is None:
        first = 0 if any(min(item.corners[:2]) < 1 for item in objects) else 1
    numbers = {name: number for number, name in enumerate(names, start=1)}
    splits: dict[str, CocoValue] = {}
    for name, images in read.items():
        value = splits[name] = CocoValue(output or folder, {number: name for name, number in numbers.items()})
        for image in images:
            image_id = value.add_image(image.image, *image.size)
            for item in image.objects:
                is_crowd = item.difficult and difficult == "ignore"
                findings.add("difficult", [image.image.name] if is_crowd else [])
                x1, y1, x2, y2 = item.corners
                box = [x1 - first, y1 - first, x2 - x1 + first, y2 - y1 + first]
                value.add_object(image_id, numbers[item.name], box, iscrowd=int(is_crowd))
    why = "as VOC has it" if first else "a box begins there"
    note = f"the first pixel is {first}" + (f": {why}" if first_pixel is None else "")
    return Conversion(write_splits(output or folder, splits), findings.in_order(), (note,))


def _read(files: list[VocFile], findings: Findings) -> Iterator[_Annotated]:
    for file in files:
        try:
            root = ElementTree.parse(file.xml).getroot()
        except (ElementTree.ParseError, OSError, ValueError, LookupError) as error:
            findings.add("bad_files", [f"{file.xml.name}: {one_line(error)}"])
            continue
        image = file.image_named(one_line(root.findtext("filename") or ""))
        if image is None:
            findings.add("no_image", [file.xml.name])
            continue
        size = _size(root)
        try:
            size = size or check_header(image)
        except UnreadableImageError as error:
            findings.add("bad_images", [f"{image}: {error}"])
            continue
        yield _Annotated(image, size, list(_objects(root, file.xml.name, findings)))


def _size(root: ElementTree.Element) -> tuple[int, int] | None:
    width, height = (_number(root.findtext(f"size/{side}")) for side in ("width", "height"))
    return (int(width), int(height)) if width and height and min(width, height) >= 1 else None


def _objects(root: ElementTree.Element, file: str, findings: Findings) -> Iterator[_Object]:
    for item in root.iter("object"):
        name = one_line(item.findtext("name") or "")
        x1, y1, x2, y2 = (_number(item.findtext(f"bndbox/{side}")) for side in ("xmin", "ymin", "xmax", "ymax"))
        if not name or x1 is None or y1 is None or x2 is None or y2 is None:
            findings.add("bad_objects", [file])
            continue
        yield _Object(name, (x1, y1, x2, y2), _number(item.findtext("difficult")) == 1)


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) and abs(number) < 1e9 else None
