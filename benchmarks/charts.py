"""The pictures of README.md and docs/: the block, and charts of the rows in `benchmarks/results/`.

    python benchmarks/charts.py

It writes docs/images/. Every number that is drawn is also in its picture as text, so that a test can compare the
committed pictures with new ones.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from attentions_table import judged_differences
from charts_costs import draw_costs
from charts_search import draw_methods, draw_space
from gain_table import UNIT, accuracies, starting_gains
from rows import Row, read_rows
from space.lengths import all_rows, variations, without_constant

from sase_attn import genotypes
from sase_attn.comparison.networks import PLAIN
from sase_attn.comparison.paired import MARGIN, paired_differences
from sase_attn.plot import draw_genotype
from sase_attn.plot.figure import figure_path, write_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

IMAGES = Path(__file__).parent.parent / "docs" / "images"
BLUE, ORANGE, GREY, INK = "#1f5f9e", "#d9822b", "#8a8a8a", "#222222"

# The bars of the chart of speed, from the top: their label, and the variants of the rows, eager and compiled.
BARS = [
    ("no attention", "plain", "plain, compiled"),
    ("SE", "SE", "SE, compiled"),
    ("ECA", "ECA", "ECA, compiled"),
    ("CBAM", "CBAM", "CBAM, compiled"),
    ("SASE, the authors' formula", "SASE, release's formula", ""),
    ("SASE, this library", "SASE", "SASE, compiled"),
]
LAYOUT, MODE = "NCHW", "forward+backward"
PANELS = [
    ("block", (16, 256, 56, 56), "One block, 16×256×56×56"),
    ("model", (8, 3, 224, 224), "ResNet-50, 8×3×224×224"),
]


def draw_speed(path: Path) -> None:
    """A training step of one block and of ResNet-50 with each attention, eager and compiled."""
    rows = [row for row in read_rows("speed") if (row["layout"], row["mode"], row["device"]) == (LAYOUT, MODE, "cpu")]
    _write(lambda: _speed(rows), path)


def _speed(rows: list[Row]) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.9), layout="constrained")
    panels: Sequence[Axes] = figure.subplots(1, len(PANELS))
    for axes, (level, shape, title) in zip(panels, PANELS, strict=True):
        times = {row["variant"]: row["ms"] for row in rows if row["level"] == level and tuple(row["shape"]) == shape}
        bars = [bar for bar in BARS if bar[1] in times]
        for place, (_, *variants) in enumerate(bars):
            found = [
                (variant, colour) for variant, colour in zip(variants, (BLUE, ORANGE), strict=True) if variant in times
            ]
            for (variant, colour), offset in zip(found, (-0.19, 0.19) if len(found) > 1 else (0.0,), strict=True):
                axes.barh(place + offset, times[variant], 0.36, color=colour)
                axes.text(times[variant], place + offset, f" {times[variant]:,.0f}", va="center", fontsize=9)
        axes.set_yticks(range(len(bars)), [bar[0] for bar in bars])
        axes.get_yticklabels()[-1].set_fontweight("bold")
        axes.set_ylim(len(bars) - 0.5, -0.5)
        axes.set_xlim(0, 1.14 * max(times[v] for bar in bars for v in bar[1:] if v in times))
        axes.set_title(title, fontsize=11, loc="left", color=INK)
        axes.set_xlabel("milliseconds, forward and backward: less is better", fontsize=9)
        _plain(axes)
    _key(figure, [(BLUE, "eager"), (ORANGE, "torch.compile")])
    return figure


def draw_results(path: Path) -> None:
    """Every compared network minus the plain one at unit gain: mean, interval, and each seed."""
    rows = read_rows("attentions")
    _write(lambda: _results(rows), path)


def _results(rows: list[Row]) -> "Figure":
    from matplotlib.figure import Figure

    differences = sorted(judged_differences(rows), key=lambda difference: -difference.mean)
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.axvline(0, color=INK, lw=0.8, zorder=0)
    axes.axvspan(-MARGIN, MARGIN, color="#efefef", lw=0, zorder=-1)
    for place, difference in enumerate(differences):
        colour = GREY if difference.label.startswith("constant") else BLUE
        if difference.low is not None and difference.high is not None:
            axes.plot([difference.low, difference.high], [place, place], "-", color=colour, lw=2)
        axes.plot(difference.values, [place] * len(difference.values), "o", color=colour, ms=4, alpha=0.45)
        axes.plot([difference.mean], [place], "D", color=colour, ms=6)
        text = f"{difference.mean:+.2f}, {difference.verdict}"
        axes.text(1.01, place, text, transform=axes.get_yaxis_transform(), va="center", fontsize=9)
    axes.set_yticks(range(len(differences)), [difference.label for difference in differences])
    axes.set_ylim(len(differences) - 0.4, -0.6)
    axes.set_xlabel("top-1 minus that of the network without attention, points", fontsize=9)
    _plain(axes)
    _key(figure, [(BLUE, "attention at unit gain"), (GREY, "a constant factor, no attention")])
    return figure


def draw_gain(path: Path) -> None:
    """Accuracy against starting gain: constants, and attentions at published and at unit gain."""
    _write(lambda: _gain(read_rows("gain_240")), path)


def _gain(rows: list[Row]) -> "Figure":
    from matplotlib.figure import Figure

    found = {difference.label: difference for difference in paired_differences(accuracies(rows), PLAIN)}
    starts = starting_gains(rows)
    figure = Figure(figsize=(10, 4.6), layout="constrained")
    panels: Sequence[Axes] = figure.subplots(1, 2, sharey=True, width_ratios=[3, 2])
    constants = sorted((starts[label], d.mean) for label, d in found.items() if label.startswith("constant"))
    panels[0].plot(*zip(*sorted([*constants, (1.0, 0.0)]), strict=True), "o-", color=GREY, lw=1.5, zorder=1)
    attentions = [label.removesuffix(UNIT) for label in found if label.endswith(UNIT)]
    for axes, suffix, colour in ((panels[0], "", ORANGE), (panels[1], UNIT, BLUE)):
        for place, label in enumerate(attentions):
            difference = found[label + suffix]
            alike = sorted(
                (other for other in attentions if starts[other] == starts[label]), key=lambda o: found[o].mean
            )
            above = alike.index(label) - (len(alike) - 1) / 2  # spreads the labels of equal gains by accuracy
            x = place if suffix else starts[label] + 0.02 * above
            low = difference.mean if difference.low is None else difference.low
            axes.plot([x, x], [low, 2 * difference.mean - low], color=colour, lw=1.2)
            axes.plot([x], [difference.mean], "o", color=colour, ms=6)
            if not suffix:
                text, offset = f"{label} {difference.mean:+.1f}", (10 - 70 * (x > 1.4), 13 * above - 3)
                axes.annotate(text, (x, difference.mean), offset, textcoords="offset points", fontsize=8, color=INK)
        axes.axhline(0, color=INK, lw=0.8, zorder=0)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=9)
    panels[0].set_xlabel("published starting gain", fontsize=9)
    panels[0].set_ylabel("top-1 minus plain, points", fontsize=9)
    panels[1].set_xlabel("starting gain divided out", fontsize=9)
    named = [f"{label} {found[label + UNIT].mean:+.1f}" for label in attentions]
    panels[1].set_xticks(range(len(attentions)), named, rotation=60, ha="right", rotation_mode="anchor")
    panels[1].set_xlim(-0.5, len(attentions) - 0.5)
    _key(figure, [(GREY, "a constant factor, no attention"), (ORANGE, "as published"), (BLUE, "at unit gain")])
    return figure


def draw_lengths(path: Path) -> None:
    """The intraclass correlation against the length of a training, with its interval.

    It is by accuracy, by loss, and by accuracy without the genotypes whose channel squeeze is a constant.
    """
    _write(lambda: _lengths(all_rows()), path)


def _lengths(rows: list[Row]) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.9), layout="constrained")
    axes = figure.subplots()
    steps = variations(rows)
    kinds = {
        "top-1": (steps, BLUE),
        "loss": (variations(rows, "loss"), ORANGE),
        "top-1, without the constant": (variations(without_constant(rows)), GREY),
    }
    for number, (by_steps, colour) in enumerate(kinds.values()):
        for step, found in by_steps.items():
            x = list(steps).index(step) + 0.3 * (number - 1)
            axes.plot([x, x], [found.low, found.high], "-", color=colour, lw=2)
            axes.plot([x], [found.icc], "o", color=colour, ms=7)
            text = f"{found.icc:.2f}\n[{found.low:.2f}, {found.high:.2f}]"
            axes.annotate(text, (x, found.icc), (7, 2), textcoords="offset points", fontsize=8)
    counts = [f"{step:,} steps\n{found.genotypes} × {found.seeds}" for step, found in steps.items()]
    axes.set_xticks(range(len(steps)), counts)
    axes.set_yticks([tenth / 10 for tenth in range(11)])
    axes.set_xlim(-0.4, len(steps) - 0.5)
    axes.set_ylim(-0.03, 1)
    axes.set_ylabel("intraclass correlation of genotypes", fontsize=9)
    axes.set_xlabel("length of a training; genotypes × seeds", fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    _key(figure, [(colour, words) for words, (_, colour) in kinds.items()])
    return figure


def _plain(axes: "Axes") -> None:
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(labelsize=9)


def _key(figure: "Figure", entries: list[tuple[str, str]]) -> None:
    from matplotlib.patches import Patch

    handles = [Patch(color=colour, label=label) for colour, label in entries]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False, fontsize=9.5)


def _write(draw: "Callable[[], Figure]", path: Path) -> None:
    write_figure(draw, figure_path(path))


PICTURES: dict[str, Callable[[Path], None]] = {
    "block.svg": lambda path: draw_genotype(genotypes["sase"], path),
    "speed.svg": draw_speed,
    "results.svg": draw_results,
    "starting-gain.svg": draw_gain,
    "search-space.svg": draw_space,
    "search-methods.svg": draw_methods,
    "costs.svg": draw_costs,
}
if all_rows():
    PICTURES["lengths.svg"] = draw_lengths


def main() -> None:
    """Write every picture."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    for name, draw in PICTURES.items():
        draw(IMAGES / name)
        print(IMAGES / name)


if __name__ == "__main__":
    main()
