"""Charts of the search: its space, and the gains of its methods."""

import statistics
from pathlib import Path
from typing import TYPE_CHECKING

from rows import Row, read_rows

from sase_attn import genotypes
from sase_attn.genotype import EDGES
from sase_attn.ops import RELEASE_OPS
from sase_attn.plot.figure import figure_path, write_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CHANNEL, SPATIAL = ("#dbe8f6", "#1f5f9e"), ("#fde6cf", "#a84f0c")
WHAT = {
    "channel_squeeze": "a statistic of\neach channel of x",
    "channel_excite": "from it, the weights\nof the channels",
    "channel_gate": "from it, what weighs\nthe gated map",
    "spatial_squeeze_input": "a statistic of each\nposition of x",
    "spatial_squeeze_gated": "a statistic of each\nposition of M·x",
    "spatial_excite": "from both, the weights\nof the positions",
}
METHOD_COLOURS = {"race": "#d9822b", "additive": "#1f5f9e", "tpe": "#4f9d69", "random": "#8a8a8a"}


def draw_space(path: Path) -> None:
    """The six edges of the block with the operations of the published search, and those that it chose."""
    write_figure(_space, figure_path(path))


def _space() -> "Figure":
    from matplotlib.figure import Figure
    from matplotlib.patches import FancyBboxPatch

    rows = max(len(ops) for ops in RELEASE_OPS.values())
    figure = Figure(figsize=(10, 4.5))
    axes: Axes = figure.add_axes((0.0, 0.0, 1.0, 1.0), xlim=(0, len(EDGES)), ylim=(rows + 0.15, -1.75))
    axes.set_axis_off()
    for column, edge in enumerate(EDGES):
        fill, ink = CHANNEL if edge.startswith("channel") else SPATIAL
        axes.text(column + 0.5, -1.45, edge, ha="center", va="center", fontsize=8, fontweight="bold", color=ink)
        axes.text(column + 0.5, -0.75, WHAT[edge], ha="center", va="center", fontsize=8, color="#444444")
        chosen = str(getattr(genotypes["sase"], edge))
        for row, name in enumerate(RELEASE_OPS[EDGES[edge]]):
            box = FancyBboxPatch(
                (column + 0.08, row + 0.1),
                0.84,
                0.72,
                boxstyle="round,pad=0,rounding_size=0.07",
                facecolor=fill if name == chosen else "white",
                edgecolor=ink if name == chosen else "#c4c4c4",
                linewidth=1.8 if name == chosen else 0.8,
            )
            axes.add_patch(box)
            weight = "bold" if name == chosen else "normal"
            axes.text(column + 0.5, row + 0.46, name, ha="center", va="center", fontsize=9, fontweight=weight)
    return figure


def draw_methods(path: Path) -> None:
    """The mean gain of each method by the number of trainings, in worlds whose true accuracies are known."""
    rows = read_rows("search_methods")
    write_figure(lambda: _methods(rows), figure_path(path))


def _methods(rows: list[Row]) -> "Figure":
    from matplotlib.figure import Figure

    worlds = [world for world in dict.fromkeys(row["world"] for row in rows) if world != "ICC 0"]
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    panels = figure.subplots(1, len(worlds), sharey=True)
    for axes, world in zip(panels, worlds, strict=True):
        for place, (method, colour) in enumerate(METHOD_COLOURS.items()):
            found = sorted(
                (row["trainings"], row["gains"]) for row in rows if (row["world"], row["label"]) == (world, method)
            )
            at = [index + 0.12 * (place - 1.5) for index in range(len(found))]
            means = [statistics.mean(gains) for _, gains in found]
            halves = [1.96 * statistics.stdev(gains) / len(gains) ** 0.5 for _, gains in found]
            axes.errorbar(at, means, halves, fmt="o-", color=colour, ms=3.5, lw=1.1, elinewidth=1.1, label=method)
            axes.set_xticks(range(len(found)), [str(trainings) for trainings, _ in found])
        best = max(METHOD_COLOURS, key=lambda method: _largest(rows, world, method))
        axes.set_title(f"{world}\n{best} {_largest(rows, world, best):+.2f}", fontsize=9.5)
        axes.axhline(0, color="#222222", lw=0.8, zorder=0)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8.5)
    panels[0].set_ylabel("true gain over a random genotype, points", fontsize=9)
    figure.supxlabel("trainings", fontsize=9)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False, fontsize=9.5)
    return figure


def _largest(rows: list[Row], world: str, method: str) -> float:
    """The mean gain with the most trainings."""
    of_both = [row for row in rows if (row["world"], row["label"]) == (world, method)]
    return statistics.mean(max(of_both, key=lambda row: row["trainings"])["gains"])
