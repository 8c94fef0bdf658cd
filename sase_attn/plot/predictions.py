"""A grid of images with the class that a network sees in each: `draw_predictions`."""

import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor

from sase_attn.plot.figure import figure_path, fitted_text, text_width, write_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Lengths are in inches, text sizes in points.
_WIDTH, _GAP, _MARGIN, _LINE, _TEXT = 1.25, 0.1, 0.12, 0.15, 7.0
_INK, _GREY, _WRONG = "#111111", "#555555", "#b3261e"
_MOST_COLUMNS = 8


class Tile(NamedTuple):
    """An image, and the text below it.

    Attributes:
        pixels: uint8 (3, H, W).
        name: name of the class that was predicted.
        probability: probability of that class, from 0 to 1.
        wanted: the right class, if another was predicted; the prediction is then red.
    """

    pixels: Tensor
    name: str
    probability: float
    wanted: str | None = None


def draw_predictions(tiles: Sequence[Tile], path: str | os.PathLike[str]) -> None:
    """Draw images in rows, each with the predicted class, its probability, and the right class if it is another one.

    Args:
        tiles: the images, all of one shape.
        path: a .png, .svg or .pdf file. If it exists, it is replaced once the new one is complete.

    Raises:
        ValueError: no images; another suffix.
        FileNotFoundError: no such folder.
        ImportError: matplotlib is not installed.
    """
    path = figure_path(path)
    if not tiles:
        raise ValueError("wanted at least one image to draw, got none")
    write_figure(lambda: _figure(tiles), path)


def _figure(tiles: Sequence[Tile]) -> "Figure":
    """The figure, with coordinates in inches from its lower left corner."""
    from matplotlib.figure import Figure

    columns = min(_MOST_COLUMNS, len(tiles), math.ceil(math.sqrt(len(tiles) * 1.5)))
    rows = math.ceil(len(tiles) / columns)
    lines = 1 + any(tile.wanted is not None for tile in tiles)
    _, height, width = tiles[0].pixels.shape
    tall = _WIDTH * height / width
    step = tall + 0.04 + lines * _LINE + _GAP
    across, down = 2 * _MARGIN + columns * (_WIDTH + _GAP) - _GAP, 2 * _MARGIN + rows * step - _GAP
    figure = Figure(figsize=(across, down))
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_axis_off()
    for place, tile in enumerate(tiles):
        left = _MARGIN + place % columns * (_WIDTH + _GAP)
        top = down - _MARGIN - place // columns * step
        extent = (left, left + _WIDTH, top - tall, top)
        axes.imshow(tile.pixels.permute(1, 2, 0).numpy(), extent=extent, aspect="auto", interpolation="nearest")
        percent = f" {100 * tile.probability:.0f} %"
        texts = [fitted_text(tile.name, _WIDTH - text_width(percent, _TEXT) - 0.06, _TEXT) + percent]
        texts += [] if tile.wanted is None else [fitted_text(tile.wanted, _WIDTH, _TEXT)]
        for line, text in enumerate(texts):
            color = _GREY if line else _INK if tile.wanted is None else _WRONG
            y = top - tall - 0.04 - (line + 0.5) * _LINE
            style: dict[str, Any] = {"fontsize": _TEXT, "color": color, "ha": "center", "va": "center"}
            axes.text(left + _WIDTH / 2, y, text, parse_math=False, **style)
    axes.set(xlim=(0, across), ylim=(0, down))
    return figure
