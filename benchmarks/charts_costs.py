"""The chart of what each attention costs in a network: time of a step, of inference, and memory, relative to plain."""

from pathlib import Path
from typing import TYPE_CHECKING

from rows import Row, read_rows

from sase_attn.plot.figure import figure_path, write_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANELS = {"step_ms": "training step", "inference_ms": "inference", "memory_mb": "memory"}
OURS = ("SASE", "SASE random")
LIMIT = 2.3
"""The upper end of the panels; larger values are marked."""


def draw_costs(path: Path) -> None:
    """One line for each attention, one panel for each cost."""
    rows = read_rows("compare_cost")
    write_figure(lambda: _costs(rows), figure_path(path))


def _costs(rows: list[Row]) -> "Figure":
    from matplotlib.figure import Figure

    plain = next(row for row in rows if row["label"] == "plain")
    ordered = sorted((row for row in rows if row is not plain), key=lambda row: float(row["step_ms"]))
    figure = Figure(figsize=(10, 5.2), layout="constrained")
    panels = figure.subplots(1, len(PANELS), sharey=True)
    for axes, (key, title) in zip(panels, PANELS.items(), strict=True):
        for place, row in enumerate(ordered):
            ratio = row[key] / plain[key]
            colour = "#1f5f9e" if row["label"] in OURS else "#b9c7d6"
            axes.barh(place, min(ratio, LIMIT) - 1, 0.7, left=1, color=colour)
            mark = " →" if ratio > LIMIT else ""
            axes.text(max(1, min(ratio, LIMIT)), place, f" {ratio:.2f}{mark}", va="center", fontsize=8)
        axes.axvline(1, color="#222222", lw=0.8)
        axes.set_xlim(0.9, LIMIT + 0.35)
        axes.set_title(f"{title}, relative to no attention", fontsize=9.5, loc="left")
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
        axes.tick_params(labelsize=8.5)
    first: Axes = panels[0]
    first.set_yticks(range(len(ordered)), [row["label"] for row in ordered])
    first.set_ylim(len(ordered) - 0.4, -0.6)
    for label in first.get_yticklabels():
        label.set_fontweight("bold" if label.get_text() in OURS else "normal")
    return figure
