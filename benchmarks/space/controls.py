"""The table of the controls in `results/space_STEPS.jsonl`: each one minus the plain network, by length of training."""

import statistics
from itertools import chain

from gain_table import could_be_seen, interval
from rows import Row

from sase_attn.comparison.networks import PLAIN
from sase_attn.comparison.paired import paired_differences
from sase_attn.quoting import enumerated
from space.cases import CONTROLS


def controls(rows: list[Row], place: str) -> str:
    """One line for each control: its paired difference to plain after each length, and its loss after the longest.

    Args:
        rows: the rows of all lengths; those of genotypes are ignored, as are lengths without all controls.
        place: the provenance of the rows, in words.

    Raises:
        ValueError: no length has all controls.
    """
    by_run = {(row["steps"], row["label"], row["seed"]): row for row in rows if row["label"] in CONTROLS}
    seeds = sorted({seed for _, _, seed in by_run})
    lengths = [
        steps
        for steps in sorted({steps for steps, _, _ in by_run})
        if all((steps, label, seed) in by_run for label in CONTROLS for seed in seeds)
    ]
    if not lengths:
        raise ValueError(f"wanted rows of {enumerated(CONTROLS)} with the same seeds, got them for no length")
    images = rows[0]["count"]
    found = [
        paired_differences(
            {label: [by_run[steps, label, seed]["top1"] for seed in seeds] for label in CONTROLS}, PLAIN, images=images
        )
        for steps in lengths
    ]
    last = {label: [by_run[lengths[-1], label, seed]["loss"] for seed in seeds] for label in CONTROLS}
    heads = " | ".join(f"{steps:,} steps, points" for steps in lengths)
    lines = [
        f"| minus plain | {heads} | loss, {lengths[-1]:,} steps |",
        f"| --- |{' ---: |' * (len(lengths) + 1)}",
        f"| {PLAIN} |{' |' * len(lengths)} {_mean(last[PLAIN])} |",
    ]
    for of_lengths in zip(*found, strict=True):
        cells = [interval(one).replace(" | ", ", ") for one in of_lengths]
        label = of_lengths[0].label
        lines.append(f"| {label} | {' | '.join(cells)} | {_mean(last[label])} |")
    notes = (
        f"{len(seeds)} paired seeds, 95 % intervals, Holm's correction of the verdicts over the networks of a length; "
        f"{could_be_seen(chain(*found))}the setting is that of the table above; "
        f"loss: mean ± standard deviation of the test images' cross entropy; {place}."
    )
    return "\n".join([*lines, "", notes])


def _mean(values: list[float]) -> str:
    spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{spread}"
