"""The picture of a confusion matrix: `draw_confusion`."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from sase_attn.plot.figure import figure_path, fitted_text, text_width, write_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Lengths are in inches, text sizes in points.
_LARGEST, _CELL, _MARGIN, _HEAD, _LONGEST_NAME = 8.0, 0.42, 0.12, 0.28, 1.6
_TITLE_POINTS = 9
_NUMBERED = 40  # the most classes for which each count is written
_NAMED = 120  # the most classes for which names are legible


def draw_confusion(
    counts: Tensor, classes: Sequence[str], known: Sequence[str], path: str | os.PathLike[str], *, of: str = "images"
) -> None:
    """Draw how many images of each class (rows) were predicted as each class (columns), shaded by share of the row.

    Counts are written for up to 40 classes, and names for up to 120.

    Args:
        counts: int64 (rows, columns).
        classes: names of the rows.
        known: names of the columns.
        path: a .png, .svg or .pdf file. If it exists, it is replaced once the new one is complete.
        of: what is counted, for the title.

    Raises:
        ValueError: the names are not as many as the rows and columns; another suffix.
        FileNotFoundError: no such folder.
        ImportError: matplotlib is not installed.
    """
    path = figure_path(path)
    if counts.shape != (len(classes), len(known)) or not counts.numel():
        raise ValueError(f"wanted counts of {len(classes)} × {len(known)} classes, got {tuple(counts.shape)}")
    title = f"A row: what the {of} of a class were taken for"
    write_figure(lambda: _figure(counts, classes, known, title), path)


def _figure(counts: Tensor, classes: Sequence[str], known: Sequence[str], title: str) -> "Figure":
    from matplotlib.figure import Figure

    rows, columns = counts.shape
    cell = min(_CELL, _LARGEST / max(rows, columns))
    points = max(2.5, min(8.0, cell * 72 * 0.62))
    named, numbered = max(rows, columns) <= _NAMED, max(rows, columns) <= _NUMBERED
    left, right = ([fitted_text(name, _LONGEST_NAME, points) for name in names] for names in (classes, known))
    room = [max(text_width(name, points) for name in names) + 0.12 if named else 0.05 for names in (left, right)]
    across = max(2 * _MARGIN + room[0] + columns * cell, 2 * _MARGIN + text_width(title, _TITLE_POINTS))
    down = 2 * _MARGIN + _HEAD + room[1] + rows * cell
    figure = Figure(figsize=(across, down))
    figure.text(_MARGIN / across, 1 - _MARGIN / down, title, fontsize=_TITLE_POINTS, va="top")
    box = ((_MARGIN + room[0]) / across, _MARGIN / down, columns * cell / across, rows * cell / down)
    axes = figure.add_axes(box)
    parts = (counts / counts.sum(1, keepdim=True).clamp(min=1)).numpy()
    axes.imshow(parts, cmap="Blues", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    axes.xaxis.tick_top()
    axes.tick_params(length=0, pad=2, labelsize=points)
    if named:
        axes.set_xticks(range(columns), right, rotation=90, parse_math=False)
        axes.set_yticks(range(rows), left, parse_math=False)
    else:
        axes.set_xticks([])
        axes.set_yticks([])
    if numbered:
        size = min(points, cell * 72 * 0.36)
        for row, column in counts.nonzero().tolist():
            color = "white" if parts[row, column] > 0.55 else "#111111"
            axes.text(column, row, str(int(counts[row, column])), fontsize=size, color=color, ha="center", va="center")
    for spine in axes.spines.values():
        spine.set_linewidth(0.5)
    return figure
