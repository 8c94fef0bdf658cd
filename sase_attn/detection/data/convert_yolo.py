"""`convert_yolo`: the boxes and polygons of a YOLO data set as COCO JSON; images stay where they are."""

import math
from pathlib import Path

from sase_attn.detection.data.report import Findings
from sase_attn.detection.data.written_coco import CocoValue, Conversion, write_splits
from sase_attn.detection.data.yolo_layout import YoloLayout, find_yolo, label_file
from sase_attn.training.data.image_file import UnreadableImageError, check_header

BOX = 5  # numbers in a line: the class, centre x and y, width, height
SLACK = 0.01  # share of the image's side by which labels may exceed it through rounding


def convert_yolo(folder: Path, output: Path | None = None, *, val_share: float | None = None) -> Conversion:
    """Write OUTPUT/train.json, val.json and test.json of a YOLO data set.

    A line of a label file is `class x y width height`, or `class x y x y x y …`, relative to the image's size. Class
    numbers become category ids. An image without a label file, or with an empty one, is kept without objects.

    Args:
        folder: a folder with data.yaml; or with classes.txt, images/ and labels/; or the YAML file itself.
        output: folder of the JSON files; by default that of the data.
        val_share: share of the images to validate on, if there are no splits.

    Raises:
        ValueError: names or splits are missing, or there are no images. FileNotFoundError: a folder does not exist.
        FileExistsError: a JSON file exists already. OSError: a file cannot be read or written.
    """
    layout = find_yolo(folder, val_share)
    if output is None:
        output = folder.parent if folder.is_file() else folder
    findings = Findings()
    splits = {name: _split(layout, images, output, findings) for name, images in layout.splits.items()}
    return Conversion(write_splits(output, splits), findings.in_order())


def _split(layout: YoloLayout, images: list[Path], output: Path, findings: Findings) -> CocoValue:
    value = CocoValue(output, layout.classes)
    for path in images:
        try:
            width, height = check_header(path)
        except UnreadableImageError as error:
            findings.add("bad_images", [f"{path}: {error}"])
            continue
        image_id = value.add_image(path, width, height)
        labels = label_file(path)
        if not labels.is_file():
            findings.add("no_labels", [path.name])
            continue
        text = labels.read_text(encoding="utf-8-sig", errors="replace")
        for number, line in enumerate(text.splitlines(), start=1):
            if line.strip():
                kind = _add_line(value, image_id, line, (width, height), layout.keypoints)
                findings.add(kind, [f"{labels.name}, line {number}"] if kind else [])
    return value


def _add_line(value: CocoValue, image_id: int, line: str, size: tuple[int, int], keypoints: bool) -> str:
    """Add the object of a line; return what is wrong with the line, or an empty string."""
    try:
        category, *numbers = (float(word) for word in line.split())
    except ValueError:
        return "bad_lines"
    if keypoints:
        numbers = numbers[: BOX - 1]
    is_polygon = len(numbers) >= 6 and len(numbers) % 2 == 0
    if not all(map(math.isfinite, (category, *numbers))) or not (len(numbers) == BOX - 1 or is_polygon):
        return "bad_lines"
    if category not in value.categories:
        return "unknown_numbers"
    if not -SLACK <= min(numbers) <= max(numbers) <= 1 + SLACK:
        return "not_shares"
    scaled = [number * size[place % 2] for place, number in enumerate(numbers)]
    if is_polygon:
        x, y = scaled[0::2], scaled[1::2]
        box = [min(x), min(y), max(x) - min(x), max(y) - min(y)]
        value.add_object(image_id, int(category), box, segmentation=[scaled], area=_area(x, y))
    else:
        x_centre, y_centre, width, height = scaled
        value.add_object(image_id, int(category), [x_centre - width / 2, y_centre - height / 2, width, height])
    return ""


def _area(x: list[float], y: list[float]) -> float:
    """The area of a polygon."""
    return abs(sum(x[i - 1] * y[i] - x[i] * y[i - 1] for i in range(len(x)))) / 2
