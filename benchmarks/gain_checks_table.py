"""The tables of `results/gain_checks.jsonl`: other ways to reach unit gain, and other learning rates."""

import statistics

from gain import LR
from gain_checks import AT_RATES, RATES, REACHED, WAYS
from gain_table import UNIT, setting
from rows import Row, read_rows

from sase_attn.comparison.networks import PLAIN
from sase_attn.comparison.paired import Difference, paired_differences

Top1 = dict[str, list[float]]


def checks(rows: list[Row], place: str) -> str:
    """Both tables, and below them their provenance.

    Args:
        rows: the rows of the study.
        place: the provenance of the rows, in words.
    """
    top1 = _with_those_of_unit_gain(rows)
    return "\n".join([*_ways(top1), "", *_rates(top1), "", _notes(rows, top1, place)])


def _with_those_of_unit_gain(rows: list[Row]) -> Top1:
    """Top-1 by label of the study, and of the same networks in `gain.py`, for the seeds that all have."""
    labels = {*AT_RATES, *REACHED, *(name + UNIT for name in REACHED)}
    all_rows = [*rows, *(row for row in read_rows("gain_240") if row["label"] in labels)]
    found: dict[str, dict[int, float]] = {}
    for row in all_rows:
        found.setdefault(row["label"], {})[row["seed"]] = row["top1"]
    seeds = sorted(set.intersection(*(set(values) for values in found.values())))
    return {label: [values[seed] for seed in seeds] for label, values in found.items()}


def _ways(top1: Top1) -> list[str]:
    """One line for each attention, one column for each way to reach its starting gain."""
    suffixes = {"as published": "", "divided (unit gain)": UNIT} | {way: f", {way}" for way in WAYS}
    labels = [name + suffix for name in REACHED for suffix in suffixes.values()]
    found = {d.label: d for d in paired_differences({label: top1[label] for label in [PLAIN, *labels]}, PLAIN)}
    return [
        f"| minus plain, points | {' | '.join(suffixes)} |",
        "| --- |" + " --- |" * len(suffixes),
        *(
            f"| {name} | {' | '.join(_cell(found[name + suffix]) for suffix in suffixes.values())} |"
            for name in REACHED
        ),
    ]


def _rates(top1: Top1) -> list[str]:
    """One line for each learning rate: the plain network's accuracy, and the others' differences to it."""
    labels = [label for label in AT_RATES if label != PLAIN]
    lines = [f"| learning rate | plain, % | {' | '.join(labels)} |", "| ---: | ---: |" + " --- |" * len(labels)]
    for lr in sorted([*RATES, LR]):
        suffix = "" if lr == LR else f", lr {lr:g}"
        at_rate = {label: top1[label + suffix] for label in AT_RATES}
        cells = [_cell(difference) for difference in paired_differences(at_rate, PLAIN)]
        lines.append(f"| {lr:g} | {statistics.mean(at_rate[PLAIN]):.2f} | {' | '.join(cells)} |")
    return lines


def _cell(difference: Difference) -> str:
    interval = "" if difference.low is None else f" [{difference.low:+.2f}, {difference.high:+.2f}]"
    verdict = "" if difference.low is None else f", {difference.verdict}"
    return f"{difference.mean:+.2f}{interval}{verdict}"


def _notes(rows: list[Row], top1: Top1, place: str) -> str:
    return (
        f"{len(top1[PLAIN])} paired seeds, 95 % intervals; Holm's correction over the twelve differences of the first "
        f"table, and over the four of a line of the second; {setting(rows)}; {place}."
    )
