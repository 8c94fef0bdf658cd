"""`draw_detections`: draw detections on one image."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageChops, ImageDraw, ImageFilter
from torch import Tensor

from sase_attn.detection.data.masks import RunLengths, mask_tools
from sase_attn.detection.drawing.labels import INK, WHITE, Entry, Labels, Rgb, color, with_legend
from sase_attn.detection.evaluation.detections import Detections
from sase_attn.files import write_atomically
from sase_attn.plot.characters import warn_of_missing

SMALLEST, LARGEST = 640, 1600  # pixels of the longer side of a picture
SCORE = 0.5
FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}
_FILL = 0.4  # opacity of a mask's colour


def draw_detections(
    image: Image.Image,
    seen: Detections,
    classes: Sequence[str],
    path: str | os.PathLike[str],
    *,
    min_score: float = SCORE,
) -> None:
    """Draw boxes with names and scores, filled masks, and below the image the number of objects of each class.

    Each class has a colour; if there is only one class, each object has one. A label that would overlap another is left
    out. Images whose longer side is below 640 or above 1600 pixels are scaled.

    Args:
        image: the image in RGB.
        seen: the result of `detect` for the image.
        classes: names of the classes, from label 1 on.
        path: a .png or .jpg file. If it exists, it is replaced once the new one is complete.
        min_score: detections with a lower score are not drawn.

    Raises:
        ValueError: another suffix. FileNotFoundError: no such folder. ImportError: matplotlib is not installed.
    """
    path = picture_path(path)
    longest = max(image.size)
    picture = annotated(image, seen, classes, max(1.0, SMALLEST / longest) * min(1.0, LARGEST / longest), min_score)
    size = font_size(picture)
    labels = seen["labels"][seen["scores"] >= min_score].tolist()
    save_picture(with_legend(picture, legend(labels, classes, min_score), size), path)


def picture_path(path: str | os.PathLike[str]) -> Path:
    """Check that a picture can be written to a path; call it before the work that the picture needs.

    Raises:
        ValueError: another suffix. FileNotFoundError: no such folder.
    """
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        raise ValueError(f"a picture of detections is a {', '.join(FORMATS)} file, got {str(path)!r}")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"no folder {str(path.parent)!r} to draw in")
    return path


def save_picture(picture: Image.Image, path: Path) -> None:
    """Write a picture to a path of `picture_path`, atomically."""
    kind = FORMATS[path.suffix.lower()]
    write_atomically(path, lambda file: picture.save(file, format=kind, **({"quality": 92} if kind == "JPEG" else {})))


def font_size(picture: Image.Image) -> int:
    """The font size for labels on a picture, in pixels."""
    return max(10, min(20, round(max(picture.size) / 60)))


def annotated(
    image: Image.Image,
    seen: Detections,
    classes: Sequence[str],
    scale: float,
    min_score: float,
    missed: Tensor | None = None,
) -> Image.Image:
    """The image, scaled, with detections, and with boxes of missed objects in black and white."""
    warn_of_missing("".join(classes))
    picture = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))
    shown = (seen["scores"] >= min_score).nonzero().flatten().tolist()
    labels = seen["labels"].tolist()
    colors = {place: color(labels[place] - 1 if len(classes) > 1 else order) for order, place in enumerate(shown)}
    masks = seen.get("masks")
    if masks is not None:
        for place in reversed(shown):
            _fill(picture, masks[place], colors[place])
    draw = ImageDraw.Draw(picture)
    line = max(2, round(max(picture.size) / 500))
    boxes = (seen["boxes"] * torch.tensor([picture.width / image.width, picture.height / image.height] * 2)).tolist()
    for box in [] if missed is None else (missed * scale).tolist():
        _outline(draw, box, INK, line + 2)
        _outline(draw, [box[0] + 1, box[1] + 1, box[2] - 1, box[3] - 1], WHITE, line)
    for place in reversed(shown):
        _outline(draw, boxes[place], colors[place], line if masks is None else 1)
    texts = Labels(picture, font_size(picture))
    for place in shown:  # the highest score first, because earlier labels take the room
        name = classes[labels[place] - 1] if len(classes) > 1 else ""
        texts.put(name, f" {100 * float(seen['scores'][place]):.0f} %", boxes[place], colors[place])
    return picture


def _outline(draw: ImageDraw.ImageDraw, box: Sequence[float], with_color: Rgb, width: int) -> None:
    """Draw a rectangle; for a box without extent, a line or a point."""
    left, top, right, bottom = box
    draw.rectangle((left, top, max(left, right), max(top, bottom)), outline=with_color, width=width)


def _fill(picture: Image.Image, mask: RunLengths, with_color: Rgb) -> None:
    """Draw a mask over a picture: a translucent colour, and a line along its edge."""
    whole = Image.fromarray(mask_tools().decode(mask) * np.uint8(255)).resize(picture.size)
    inside = whole.point(lambda value: 255 * (value > 127))
    picture.paste(with_color, mask=inside.point(lambda value: round(_FILL * value)))
    picture.paste(with_color, mask=ImageChops.subtract(inside, inside.filter(ImageFilter.MinFilter(3))))


def legend(labels: Sequence[int], classes: Sequence[str], min_score: float, missed: int | None = None) -> list[Entry]:
    """Entries for the classes that are drawn, with the count of each, the most frequent first."""
    entries = [
        Entry(color(label - 1) if len(classes) > 1 else None, classes[label - 1], f" {count}")
        for label, count in Counter(labels).most_common()
    ] or [Entry(None, "nothing found")]
    entries.append(Entry(None, f"score of {min_score:g} or more"))
    return entries if missed is None else [*entries, Entry(INK, f"not found {missed}")]
