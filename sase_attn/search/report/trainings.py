"""The part of a report on trainings from scratch: the look for signal, the effects of operations, the trainings."""

from collections.abc import Sequence
from html import escape
from statistics import mean
from typing import TYPE_CHECKING

from sase_attn.genotype import EDGES
from sase_attn.quoting import counted
from sase_attn.search.additive_model import AdditiveModel
from sase_attn.search.report import tables
from sase_attn.search.report.figure import FOUND, OTHER, figure
from sase_attn.search.result import SearchResult, TrainingRow
from sase_attn.search.signal import Signal

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Found = tuple[str, list[TrainingRow], list[float]]
"""A genotype, its trainings, and the accuracies of those that did not fail, less the effects of their seeds."""


def look(looked: Signal) -> list[str]:
    """HTML of a look for signal."""
    lines = "\n".join(looked.lines())
    return [
        "<h2>Is there anything to find?</h2>",
        f'<pre class="lines">{escape(lines)}</pre>',
        "<h2>What each operation does</h2>",
        f'<div class="wide">{effects(looked)}</div>',
        '<p class="note">Mean of genotypes that have an operation, less the mean of its edge, with an interval '
        "where genotypes are enough; all intervals together hold with 95 %. Orange: told from 0.</p>",
    ]


def parts(result: SearchResult, *, ended: bool) -> list[str]:
    """HTML of the trainings from scratch that a genotype was chosen by.

    Args:
        result: the result of the search.
        ended: whether the look for signal has ended the search.
    """
    found = by_genotype(result)
    said = (
        "those of the look for signal, which has ended the search. A dot a training, a line the mean of a genotype."
        if ended
        else "those of the look for signal among them; "
        f"method: {escape(result.config['method'])}. A dot a training, a line the mean of a genotype. A method trains "
        "genotypes again that it thinks good, so that those to the right were chosen by luck too: the comparison has "
        "seeds that did not choose."
    )
    return [
        "<h2>Trainings</h2>",
        f'<div class="wide">{rungs(result, found)}</div>',
        f'<p class="note">{len(result.trained)} of {counted(result.epochs, "epoch")}, {said}</p>',
        f'<div class="wide">{tables.trainings(found[::-1])}</div>',
    ]


def effects(looked: Signal) -> str:
    """The effect of each operation on its edge, with its interval; one panel for each edge."""
    unit = "top-1, points" if looked.measure == "top1" else "loss, sign turned"

    def draw(panels: "Sequence[Axes]") -> None:
        for axes, edge in zip(panels, EDGES, strict=True):
            found = [effect for effect in looked.judged.effects if effect.edge == edge][::-1]
            axes.axvline(0, color="#999999", linewidth=0.8, linestyle=":")
            for place, effect in enumerate(found):
                colour = OTHER if effect.verdict == "inconclusive" else FOUND
                axes.plot(effect.mean, place, "o", color=colour)
                if effect.low is not None and effect.high is not None:
                    axes.plot([effect.low, effect.high], [place] * 2, color=colour, linewidth=4, alpha=0.3)
            axes.set_yticks(range(len(found)), [effect.operation for effect in found])
            axes.set_ylim(-0.6, len(found) - 0.4)
            axes.set_title(edge, loc="left", fontweight="bold")
        for axes in panels[3:]:
            axes.set_xlabel(unit)

    return figure(draw, (13, 5.6), 2, 3)


def rungs(result: SearchResult, found: Sequence[Found]) -> str:
    """One column for each genotype, with those of more trainings to the right of a line; the chosen one is orange."""

    def draw(panels: "Sequence[Axes]") -> None:
        (axes,) = panels
        before = 0
        for place, (genotype, rows, values) in enumerate(found):
            colour = FOUND if genotype == result.genotype else OTHER
            axes.plot([place] * len(values), values, "o", color=colour, alpha=0.6, markersize=4)
            if values:
                axes.plot([place - 0.35, place + 0.35], [mean(values)] * 2, color=colour, linewidth=2)
            if len(rows) != before:
                label = counted(len(rows), "seed")
                axes.annotate(label, (place - 0.4, 1.02), xycoords=("data", "axes fraction"), fontsize=8)
                axes.axvline(place - 0.5, color="#999999", linewidth=0.8, linestyle=":")
            before = len(rows)
        axes.set_xticks([])
        axes.set_xlabel("genotypes")
        axes.set_ylabel("top-1 less its seed's, points")

    return figure(draw, (13, 3.4), 1, 1)


def by_genotype(result: SearchResult) -> list[Found]:
    """Genotypes with their trainings: those with the fewest first, and among these the worst first."""
    seeds = AdditiveModel(result.space, [row.trained for row in result.trained], shares=(0.0,)).seeds
    rows: dict[str, list[TrainingRow]] = {}
    for row in result.trained:
        rows.setdefault(row.genotype, []).append(row)
    found = [
        (genotype, ended, [row.top1 - seeds[row.seed] for row in ended if row.top1 is not None])
        for genotype, ended in rows.items()
    ]
    return sorted(found, key=lambda item: (len(item[1]), mean(item[2]) if item[2] else float("-inf")))
