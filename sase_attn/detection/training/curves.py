"""Losses and average precision of a training as a picture, by its log: `draw_curves`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sase_attn.files import read_json_lines
from sase_attn.plot.figure import figure_path, write_figure
from sase_attn.training import log

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAME = "curves.png"
_LOSS = "loss"


def draw_curves(folder: Path) -> str | None:
    """Draw `curves.png` by the log of the run in a folder.

    Returns:
        None, or why it cannot be drawn: matplotlib is missing.

    Raises:
        OSError: the log cannot be read, or the picture not written. ValueError: a line of the log is damaged.
    """
    try:
        path = figure_path(folder / NAME, extra="detection")
    except ImportError as error:
        return f"no {NAME}: {error}"
    rows = read_json_lines(folder / log.NAME, _row)
    write_figure(lambda: _figure(rows), path)
    return None


def _row(value: Any) -> dict[str, Any]:
    if not (isinstance(value, dict) and all(isinstance(value.get(key), int) for key in ("epoch", "step"))):
        raise ValueError("wanted a JSON object with epoch and step")
    return value


def _figure(rows: Sequence[dict[str, Any]]) -> "Figure":
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(9, 3.4), layout="constrained")
    losses, precision = figure.subplots(1, 2)
    epochs = [row for row in rows if row.get("kind") == "epoch"]
    steps = [row for row in rows if row.get("kind") == "step"] or epochs
    length = max((row["step"] for row in rows), default=1) or 1
    places = [row["epoch"] + row["step"] / length for row in steps]
    names = [name for name in (steps[0] if steps else {}) if name.startswith(_LOSS)]
    for name in names:
        label, width = ("all", 1.8) if name == _LOSS else (name.removeprefix(f"{_LOSS}_").replace("_", " "), 0.9)
        losses.plot(places, [row.get(name, float("nan")) for row in steps], label=label, linewidth=width)
    losses.set_ylim(bottom=0)
    losses.set_ylabel("loss")
    for kind, style in (("boxes", "-"), ("masks", "--")):
        if not (found := [row for row in epochs if row["metrics"].get(kind)]):
            continue
        for key, label in (("ap", "AP"), ("ap50", "AP50")):
            values = [_number(row["metrics"][kind][key]) for row in found]
            precision.plot([row["epoch"] + 1 for row in found], values, style, marker=".", label=f"{kind} {label}")
    precision.set_ylim(0, 1)
    precision.set_ylabel("average precision, validation images")
    for axes in (losses, precision):
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=8, frameon=False)
    return figure


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
