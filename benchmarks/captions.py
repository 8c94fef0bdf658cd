"""Captions of the charts, and the table of starting factors, from the rows of `benchmarks/results/`."""

import statistics
from contextlib import suppress

from attentions import SIZE
from attentions_table import judged_differences
from charts import LAYOUT, MODE, PANELS
from gain_table import spearman
from provenance_text import machines_of, versions_of
from rows import Row, read_rows

from sase_attn.attentions import create_attention, starting_gain
from sase_attn.quoting import enumerated

TRAININGS = {"embedded images": "compare_embedded", "CIFAR-10": "compare_cifar"}


def caption(chart: str) -> str:
    """The caption of a chart: under which conditions its numbers were measured, in one line."""
    return {"speed": _speed, "results": _results, "search_methods": _search_methods, "costs": _costs}[chart]()


def _speed() -> str:
    drawn = [(level, list(shape)) for level, shape, _ in PANELS]
    rows = [
        row
        for row in read_rows("speed")
        if (row["layout"], row["mode"], row["device"]) == (LAYOUT, MODE, "cpu") and "ms" in row
        if (row["level"], row["shape"]) in drawn
    ]
    counts = sorted({row["rounds"] for row in rows})
    rounds = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else str(counts[0])
    parts = [
        f"Forward and backward pass, {rows[0]['dtype']}, {LAYOUT}",
        f"medians of {rounds} rounds",
        _where(rows),
    ]
    return "; ".join(parts) + "."


def _results() -> str:
    rows = read_rows("attentions")
    epochs = rows[0]["recipe"]["epochs"]
    parts = [
        f"`resnet20_cifar` with one block a stage, {epochs} epochs on the embedded images at {SIZE}×{SIZE}",
        f"{rows[0]['count']:,} test images, {len(judged_differences(rows)[0].values)} paired seeds",
        "95 % intervals of the mean, Holm's correction of the verdicts",
        _where(rows),
    ]
    return "; ".join(parts) + "."


def _search_methods() -> str:
    rows = read_rows("search_methods")
    counts = enumerated(sorted({len(row["gains"]) for row in rows}), "or")
    return f"Means with their 95 % intervals over {counts} worlds; {_where(rows)}."


def _costs() -> str:
    rows = read_rows("compare_cost")
    network = f"`resnet20_cifar` at batch 128, medians of {len(rows[0]['all_step_ms'])} rounds"
    return f"{network}; {_where(rows)}."


def _where(rows: list[Row]) -> str:
    return f"{machines_of(rows)}; {versions_of(rows, 'torch')}"


def starting_factor_table() -> str:
    """A table of rank correlations between the starting gains of attentions and accuracies after short trainings."""
    lines = ["| trainings | epochs | networks | rank correlation |", "| --- | ---: | ---: | ---: |"]
    for name, study in TRAININGS.items():
        rows = read_rows(study)
        factors = starting_factors(rows)
        top1 = [statistics.mean(row["top1"] for row in rows if row["label"] == label) for label in factors]
        correlation = spearman(list(factors.values()), top1)
        lines.append(f"| {name} | {rows[0]['recipe']['epochs']} | {len(factors)} | {correlation:.2f} |")
    return "\n".join(
        [
            *lines,
            "",
            "Spearman's correlation between starting gain and mean accuracy; the gains are those of `starting_gain`. "
            "PSA, which takes the place of a convolution, and AutoLA, which adds paths to its input, have none.",
        ]
    )


def starting_factors(rows: list[Row]) -> dict[str, float]:
    """The published gain of the attention of each label; an attention without such a gain is left out."""
    factors = {"plain": 1.0}
    for label, options in {row["label"]: row["recipe"]["model_kwargs"] for row in rows}.items():
        if label != "plain":
            attention = create_attention("sase" if label.startswith("SASE") else label, channels=64, **options)
            with suppress(ValueError):
                factors[label] = starting_gain(attention)
    return factors
