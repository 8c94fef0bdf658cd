"""The charts of a search's report: the block, its comparison, and how a super-network was trained."""

from collections.abc import Sequence
from math import exp
from typing import TYPE_CHECKING

from sase_attn.comparison import Comparison
from sase_attn.genotype import EDGES, Genotype
from sase_attn.plot import draw_genotype
from sase_attn.search.report.figure import FOUND, OTHER, figure, svg
from sase_attn.search.report.log_rows import Rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def block(genotype: Genotype) -> str:
    """The graph of the block."""
    return svg(lambda path: draw_genotype(genotype, path))


def weights(rows: Rows, columns: dict[str, list[str]], chosen: Genotype) -> str:
    """The weight of each operation, edge by edge, over the steps of the search; the chosen ones are thick."""

    def draw(panels: "Sequence[Axes]") -> None:
        steps = [row["place"] for row in rows]
        for row, (axes, (edge, names)) in enumerate(zip(panels, columns.items(), strict=True)):
            for column, name in enumerate(names):
                values = [_softmax(entry["alpha"][row][: len(names)])[column] for entry in rows]
                thick = getattr(chosen, edge) == name
                axes.plot(steps, values, label=name, linewidth=2.6 if thick else 1.1, color=f"C{column}")
            axes.axhline(1 / len(names), color="#999999", linewidth=0.8, linestyle=":")
            axes.set_title(edge, loc="left", fontweight="bold")
            axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
        for axes in panels[3:]:
            axes.set_xlabel("epoch")

    return figure(draw, (13, 6), 2, 3)


def decisions(epochs: Rows) -> str:
    """Entropy and margin of each edge's weights, epoch by epoch."""

    def draw(panels: "Sequence[Axes]") -> None:
        places = [row["epoch"] + 1 for row in epochs]
        for axes, key, title in zip(panels, ("entropy", "margin"), ("entropy (1: undecided)", "margin"), strict=True):
            for row, edge in enumerate(EDGES):
                axes.plot(places, [entry[key][row] for entry in epochs], marker="o", markersize=3, label=edge)
            axes.set_title(f"{title} of the weights", loc="left", fontweight="bold")
            axes.set_xlabel("epoch")
        panels[1].legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))

    return figure(draw, (13, 3.2), 1, 2)


def training(rows: Rows, epochs: Rows) -> str:
    """Losses, the norms of both terms of alpha's gradient, and the cosine between them."""

    def draw(panels: "Sequence[Axes]") -> None:
        losses, norms, cosines = panels
        for key, label in (("train_loss", "weights' batches"), ("val_loss", "alpha's batches")):
            known = [entry for entry in epochs if entry.get(key) is not None]
            losses.plot([e["epoch"] + 1 for e in known], [e[key] for e in known], marker="o", markersize=3, label=label)
        bilevel = [row for row in rows if row.get("second_order_norm")]
        places = [row["place"] for row in bilevel]
        if bilevel:
            norms.plot(places, [row["alpha_grad_norm"] for row in bilevel], label="gradient of alpha", linewidth=1)
            norms.plot(
                places, [row["second_order_norm"] for row in bilevel], label="its second order term", linewidth=1
            )
            norms.set_yscale("log")
            cosines.plot(places, [row["second_order_cosine"] for row in bilevel], linewidth=1)
        cosines.set_ylim(-1, 1)
        titles = ("loss of the mixture", "norms", "cosine of first and second order term")
        for axes, title in zip(panels, titles, strict=True):
            axes.set_title(title, loc="left", fontweight="bold")
            axes.set_xlabel("epoch")
        losses.legend(fontsize=7)
        if bilevel:
            norms.legend(fontsize=7)

    return figure(draw, (13, 3.2), 1, 3)


def comparison(found: Comparison) -> str:
    """Differences of retrained accuracies to the reference: dots are seeds, a line the mean, a bar the interval."""
    differences = found.differences[::-1]

    def draw(panels: "Sequence[Axes]") -> None:
        (axes,) = panels
        axes.axvline(0, color="#999999", linewidth=0.8, linestyle=":")
        for place, difference in enumerate(differences):
            colour = FOUND if difference.label.startswith("found") else OTHER
            axes.plot(difference.values, [place] * len(difference.values), "o", color=colour, alpha=0.6)
            axes.plot([difference.mean] * 2, [place - 0.3, place + 0.3], color=colour, linewidth=2)
            if difference.low is not None and difference.high is not None:
                axes.plot([difference.low, difference.high], [place] * 2, color=colour, linewidth=5, alpha=0.25)
        axes.set_yticks(range(len(differences)), [difference.label for difference in differences])
        axes.set_ylim(-0.6, len(differences) - 0.4)
        axes.set_xlabel(f"top-1 on test images minus {found.reference} of the same seed, points (a dot a seed)")

    return figure(draw, (8, 0.8 + 0.38 * len(differences)), 1, 1)


def _softmax(values: Sequence[float]) -> list[float]:
    powers = [exp(value - max(values)) for value in values]
    return [power / sum(powers) for power in powers]
