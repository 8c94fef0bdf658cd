"""`draw_sheet`: draw many images with their detections on one sheet."""

import math
import os
from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image, ImageDraw
from torch import Tensor

from sase_attn.detection.drawing.labels import INK, WHITE, font, shortened, with_legend
from sase_attn.detection.drawing.picture import SCORE, annotated, legend, picture_path, save_picture
from sase_attn.detection.evaluation.detections import Detections
from sase_attn.plot.characters import warn_of_missing

_SIDE, _GAP, _TEXT = 480, 12, 14  # pixels
_MOST_COLUMNS = 4


class Tile(NamedTuple):
    """An image of a sheet: its small picture, the detections, the title below, and the number of missed objects.

    `missed` is None if the true objects are not known.
    """

    picture: Image.Image
    labels: list[int]
    title: str
    min_score: float
    missed: int | None


def draw_tile(
    image: Image.Image,
    seen: Detections,
    classes: Sequence[str],
    title: str,
    *,
    min_score: float = SCORE,
    missed: Tensor | None = None,
) -> Tile:
    """Draw one image of a sheet.

    Args:
        image: the image in RGB.
        seen: the result of `detect` for the image.
        classes: names of the classes, from label 1 on.
        title: the text below the image.
        min_score: detections with a lower score are not drawn.
        missed: boxes (N, 4) of objects that were not found, in pixels of the image; they are drawn in black and white.
    """
    picture = annotated(image, seen, classes, _SIDE / max(image.size), min_score, missed)
    labels = seen["labels"][seen["scores"] >= min_score].tolist()
    return Tile(picture, labels, title, min_score, None if missed is None else len(missed))


def draw_sheet(tiles: Sequence[Tile], classes: Sequence[str], path: str | os.PathLike[str]) -> None:
    """Draw images in rows, with their titles, and below them the number of objects of each class in all images.

    Args:
        tiles: results of `draw_tile`, all with the same `min_score`.
        classes: names of the classes, from label 1 on.
        path: a .png or .jpg file. If it exists, it is replaced once the new one is complete.

    Raises:
        ValueError: no images; another suffix. FileNotFoundError: no such folder.
        ImportError: matplotlib is not installed.
    """
    path = picture_path(path)
    if not tiles:
        raise ValueError("wanted at least one image to draw, got none")
    warn_of_missing("".join(tile.title for tile in tiles))
    drawn = [tile.picture for tile in tiles]
    columns = min(_MOST_COLUMNS, len(tiles), math.ceil(math.sqrt(len(tiles) * 1.5)))
    rows = [drawn[first : first + columns] for first in range(0, len(drawn), columns)]
    across = max(_GAP + sum(picture.width + _GAP for picture in row) for row in rows)
    heights = [max(picture.height for picture in row) + 2 * _TEXT for row in rows]
    sheet = Image.new("RGB", (across, _GAP + sum(heights)), WHITE)
    draw, titles, top = ImageDraw.Draw(sheet), iter(tiles), _GAP
    for row, height in zip(rows, heights, strict=True):
        left = _GAP
        for picture in row:
            sheet.paste(picture, (left, top))
            title = shortened(next(titles).title, picture.width, _TEXT)
            draw.text((left, top + picture.height + 2), title, fill=INK, font=font(_TEXT), anchor="la")
            left += picture.width + _GAP
        top += height
    missed = [tile.missed for tile in tiles if tile.missed is not None]
    labels = [label for tile in tiles for label in tile.labels]
    entries = legend(labels, classes, tiles[0].min_score, sum(missed) if missed else None)
    save_picture(with_legend(sheet, entries, _TEXT), path)
