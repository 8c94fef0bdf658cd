"""Charts of a report as SVG, by matplotlib, which is only imported when a chart is drawn (without pyplot)."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sase_attn.plot.figure import figure_path, write_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FOUND, OTHER = "#a84f0c", "#1f5f9e"
"""The colour of what was found, and that of everything else."""
_STYLE: dict[str, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
}


def figure(draw: "Callable[[Sequence[Axes]], None]", size: tuple[float, float], rows: int, columns: int) -> str:
    """The SVG of a figure of rows × columns axes, which `draw` fills; its size is in inches."""

    def make() -> "Figure":
        from matplotlib import rcParams
        from matplotlib.figure import Figure

        rcParams.update(_STYLE)
        figure = Figure(figsize=size, layout="constrained")
        draw(list(figure.subplots(rows, columns, squeeze=False).flat))
        return figure

    return svg(lambda path: write_figure(make, figure_path(path, extra="search")))


def svg(write: Callable[[Path], object]) -> str:
    """The `<svg>` element that a function writes to a file, without the XML header, and as wide as the page allows."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "chart.svg"
        write(path)
        text = path.read_text(encoding="utf-8")
    return text[text.index("<svg") :].replace("<svg ", '<svg class="chart" ', 1)
