"""The tables of `results/gain_STEPS.jsonl`: attentions at published and at unit gain, beside constants."""

import statistics
from collections.abc import Iterable

from rows import Row

from sase_attn.attentions import create_attention, starting_gain
from sase_attn.comparison.networks import PLAIN
from sase_attn.comparison.paired import Difference, paired_differences

UNIT = ", unit gain"


def gains(rows: list[Row], place: str) -> str:
    """One line for each network: starting gain, accuracy, paired difference to plain with interval, verdict.

    Args:
        rows: one for each network and seed; seeds that not all networks have are left out.
        place: the provenance of the rows, in words.
    """
    top1 = accuracies(rows)
    found = {difference.label: difference for difference in paired_differences(top1, PLAIN)}
    lines = [
        "| network | starting gain | top-1, % | minus plain, points | verdict |",
        "| --- | ---: | ---: | ---: | --- |",
    ]
    starts = starting_gains(rows)
    for label, values in top1.items():
        mean = f"{statistics.mean(values):.2f} ± {statistics.stdev(values):.2f}"
        lines.append(f"| {label} | {starts[label]:g} | {mean} | {interval(found.get(label))} |")
    return "\n".join([*lines, "", _notes(rows, top1, list(found.values()), place)])


def accuracies(rows: list[Row]) -> dict[str, list[float]]:
    """Top-1 by network, for the seeds that all networks have, in their order."""
    labels = list(dict.fromkeys(row["label"] for row in rows))
    seeds = set.intersection(*({row["seed"] for row in rows if row["label"] == label} for label in labels))
    by_run = {(row["label"], row["seed"]): row["top1"] for row in rows}
    order = [PLAIN, *sorted((label for label in labels if label != PLAIN), key=_place_of)]
    return {label: [by_run[label, seed] for seed in sorted(seeds)] for label in order}


def starting_gains(rows: list[Row]) -> dict[str, float]:
    """The starting gain of each network's attention, which is 1 if the published gain is divided out."""
    starts = {PLAIN: 1.0}
    for label, arguments in {row["label"]: row["recipe"]["model_kwargs"] for row in rows}.items():
        if label != PLAIN:
            attention = create_attention(arguments["attn"], 64, **arguments.get("attn_args", {}))
            starts[label] = 1.0 if label.endswith(UNIT) else starting_gain(attention)
    return starts


def rank_correlation(rows: list[Row]) -> tuple[float, float]:
    """Spearman's correlation of published gain and mean accuracy: of attentions at published gain, and at unit gain."""
    top1, starts = accuracies(rows), starting_gains(rows)
    attentions = [label.removesuffix(UNIT) for label in top1 if label.endswith(UNIT)]
    published = [starts[label] for label in attentions]
    before, after = (
        spearman(published, [statistics.mean(top1[label + suffix]) for label in attentions]) for suffix in ("", UNIT)
    )
    return before, after


def _place_of(label: str) -> tuple[int, str]:
    kinds = (label.startswith("constant"), label == "learned scalar", not label.endswith(UNIT))
    return next((number for number, is_it in enumerate(kinds) if is_it), len(kinds)), label


def interval(difference: Difference | None) -> str:
    """The cells of a difference: mean, interval and verdict; empty for the plain network itself."""
    if difference is None:
        return " | "
    interval = "" if difference.low is None else f" [{difference.low:+.2f}, {difference.high:+.2f}]"
    return f"{difference.mean:+.2f}{interval} | {difference.verdict}"


def could_be_seen(differences: Iterable[Difference]) -> str:
    """The differences that the seeds would show, for the text below a table; empty where there are too few seeds."""
    visible = [difference.visible for difference in differences if difference.visible is not None]
    if not visible:
        return ""
    return (
        f"a true difference of {min(visible):.2f} to {max(visible):.2f} points would be seen in four of five cases, "
        "before the correction; "
    )


def _notes(rows: list[Row], top1: dict[str, list[float]], found: list[Difference], place: str) -> str:
    before, after = rank_correlation(rows)
    return (
        f"{len(next(iter(top1.values())))} paired seeds, mean ± standard deviation, 95 % interval, Holm's correction; "
        f"{could_be_seen(found)}Spearman's correlation of published starting gain and accuracy over the attentions: "
        f"{before:.2f} at published gain, {after:.2f} at unit gain; {setting(rows)}; {place}."
    )


def setting(rows: list[Row]) -> str:
    """The setting of the trainings, in words."""
    return (
        f"{rows[0]['steps']} steps of 64 images of 16×16 (JPEG-recompressed CIFAR-10, 7,680 training images, no "
        f"augmentation), {rows[0]['count']:,} test images"
    )


def spearman(first: list[float], second: list[float]) -> float:
    """Spearman's rank correlation."""
    from scipy.stats import spearmanr

    return float(spearmanr(first, second).statistic)
