"""`draw_curves`: a picture of the losses and average precision in the log of a training."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sase_attn.detection.evaluation.metrics import DetectionMetrics
from sase_attn.files import read_json_lines
from sase_attn.plot.figure import figure_path, write_figure
from sase_attn.records import record_from
from sase_attn.training import log

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAME = "curves.png"
_LOSS = "loss"


@dataclass(frozen=True)
class _Row:
    """A line of the log."""

    kind: str
    epoch: int
    step: int
    metrics: DetectionMetrics | None = None
    losses: dict[str, float] = field(default_factory=dict)


def draw_curves(folder: Path) -> str | None:
    """Draw `curves.png` from the log of the run in a folder.

    Returns:
        None, or the reason why it cannot be drawn: matplotlib is missing, or the log is damaged.

    Raises:
        OSError: the log cannot be read, or the picture not written.
    """
    try:
        path = figure_path(folder / NAME, extra="detection")
        rows = read_json_lines(folder / log.NAME, _row)
    except (ImportError, ValueError) as error:
        return f"no {NAME}: {error}"
    write_figure(lambda: _figure(rows), path)
    return None


def _row(value: object) -> _Row:
    losses = {}
    if isinstance(value, dict):
        losses = {name: number for name, number in value.items() if name.startswith(_LOSS)}
        value = {**value, "losses": losses}
    return record_from(_Row, value)


def _figure(rows: Sequence[_Row]) -> "Figure":
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(9, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    epochs = [row for row in rows if row.kind == "epoch"]
    steps = [row for row in rows if row.kind == "step"] or epochs
    length = max((row.step for row in rows), default=1) or 1
    for name in steps[0].losses if steps else ():
        label, width = ("all", 1.8) if name == _LOSS else (name.removeprefix(f"{_LOSS}_").replace("_", " "), 0.9)
        places = [row.epoch + row.step / length for row in steps]
        left.plot(places, [row.losses.get(name, float("nan")) for row in steps], label=label, linewidth=width)
    left.set_ylabel("loss")
    left.set_ylim(bottom=0)
    found = [(row.epoch + 1, row.metrics) for row in epochs if row.metrics is not None]
    for kind, style in (("boxes", "-"), ("masks", "--")):
        numbers = [(place, each) for place, metrics in found if (each := getattr(metrics, kind)) is not None]
        for label, values in (("AP", [each.ap for _, each in numbers]), ("AP50", [each.ap50 for _, each in numbers])):
            drawn = [float("nan") if value is None else value for value in values]
            if drawn:
                right.plot([place for place, _ in numbers], drawn, style, marker=".", label=f"{kind} {label}")
    right.set_ylabel("average precision, validation images")
    right.set_ylim(0, 1)
    for axes in (left, right):
        axes.set_xlabel("epoch")
        axes.set_xlim(0, max((row.epoch for row in rows), default=0) + 1.05)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=8, frameon=False)
    return figure
