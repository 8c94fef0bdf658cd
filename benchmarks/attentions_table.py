"""The tables of `results/attentions.jsonl`: attentions at unit gain, with verdicts and without."""

import statistics

from attentions import JUDGED, SEEDS_OF_OTHERS, SIZE
from gain_table import could_be_seen, interval
from rows import Row

from sase_attn.attentions import create_attention, starting_gain
from sase_attn.comparison.networks import PLAIN
from sase_attn.comparison.paired import Difference, paired_differences


def judged(rows: list[Row], place: str) -> str:
    """One line for each network: paired difference to the plain network, with a verdict.

    Args:
        rows: the rows of the study.
        place: the provenance of the rows, in words.
    """
    top1 = _accuracies(rows)
    differences = {difference.label: difference for difference in judged_differences(rows)}
    lines = ["| network | top-1, % | minus plain, points | verdict |", "| --- | ---: | ---: | --- |"]
    lines += [f"| {label} | {_mean(values)} | {interval(differences.get(label))} |" for label, values in top1.items()]
    needed = [d.seeds_needed for d in differences.values() if d.seeds_needed is not None]
    half = f"half a point would need {min(needed)} to {max(needed)} seeds; " if needed else ""
    could = could_be_seen(differences.values()) + half
    notes = f"{len(top1[PLAIN])} paired seeds, mean ± standard deviation, 95 % intervals, Holm's correction; {could}"
    return "\n".join([*lines, "", f"{notes}{_setting(rows)}; {place}."])


def judged_differences(rows: list[Row]) -> list[Difference]:
    """The difference of every network with enough seeds to the plain one."""
    return paired_differences(_accuracies(rows), PLAIN, images=rows[0]["count"])


def others(rows: list[Row], place: str) -> str:
    """One line for each attention that has too few seeds for a verdict, sorted by name."""
    found: dict[str, dict[int, Row]] = {}
    for row in rows:
        if row["seed"] < SEEDS_OF_OTHERS and (row["label"] == PLAIN or not _is_judged(row["label"])):
            found.setdefault(row["label"], {})[row["seed"]] = row
    lines = ["| attention | published gain | parameters | top-1 at unit gain, % |", "| --- | ---: | ---: | ---: |"]
    for label in [PLAIN, *sorted(set(found) - {PLAIN})]:
        if len(found.get(label, ())) == SEEDS_OF_OTHERS:
            values = [found[label][seed]["top1"] for seed in range(SEEDS_OF_OTHERS)]
            lines.append(f"| {label} | {_published(label)} | {found[label][0]['parameters']:,} | {_mean(values)} |")
    return "\n".join([*lines, "", f"{SEEDS_OF_OTHERS} seeds, mean ± standard deviation; {_setting(rows)}; {place}."])


def _is_judged(label: str) -> bool:
    return label in (PLAIN, *JUDGED.values()) or label.startswith("constant")


def _accuracies(rows: list[Row]) -> dict[str, list[float]]:
    """Top-1 by label of the networks with a verdict, for their common seeds: plain, constants, attentions."""
    found: dict[str, dict[int, float]] = {}
    for row in rows:
        if _is_judged(row["label"]):
            found.setdefault(row["label"], {})[row["seed"]] = row["top1"]
    seeds = sorted(set.intersection(*(set(values) for values in found.values())))
    order = [PLAIN, *sorted(label for label in found if label.startswith("constant")), *JUDGED.values()]
    return {label: [found[label][seed] for seed in seeds] for label in order if label in found}


def _published(label: str) -> str:
    """An attention's published gain as text, or a note that one without such a gain starts as published."""
    if label == PLAIN:
        return ""
    try:
        return f"{starting_gain(create_attention(label, 64)):g}"
    except ValueError:
        return "its own"


def _mean(values: list[float]) -> str:
    spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{spread}"


def _setting(rows: list[Row]) -> str:
    epochs, count = rows[0]["recipe"]["epochs"], rows[0]["count"]
    network = "`resnet20_cifar` with one block a stage"
    return f"{network}, {epochs} epochs of the recipe `embedded` at {SIZE}×{SIZE}, {count:,} test images"
