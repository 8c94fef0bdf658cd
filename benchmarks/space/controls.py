"""The table of the controls in `results/space_STEPS.jsonl`: each one minus the plain network, by length of training."""

import statistics

from rows import Row

from sase_attn.comparison.networks import PLAIN
from sase_attn.comparison.paired import paired_differences
from space.cases import CONTROLS


def controls(rows: list[Row], place: str) -> str:
    """One line for each control: its paired difference to plain after each length, and its loss after the longest.

    Args:
        rows: the rows of all lengths; those of genotypes are ignored, as are lengths without all controls.
        place: the provenance of the rows, in words.
    """
    by_run = {(row["steps"], row["label"], row["seed"]): row for row in rows if row["label"] in CONTROLS}
    seeds = sorted({seed for _, _, seed in by_run})
    lengths = [
        steps
        for steps in sorted({steps for steps, _, _ in by_run})
        if all((steps, label, seed) in by_run for label in CONTROLS for seed in seeds)
    ]
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
        cells = [f"{one.mean:+.2f} [{one.low:+.2f}, {one.high:+.2f}], {one.verdict}" for one in of_lengths]
        label = of_lengths[0].label
        lines.append(f"| {label} | {' | '.join(cells)} | {_mean(last[label])} |")
    visible = [one.visible for of_length in found for one in of_length if one.visible is not None]
    notes = (
        f"{len(seeds)} paired seeds, 95 % intervals, Holm's correction of the verdicts over the networks of a length; "
        f"a true difference of {min(visible):.2f} to {max(visible):.2f} points would be seen; the setting is that of "
        f"the table above; loss: mean ± standard deviation of the test images' cross entropy; {place}."
    )
    return "\n".join([*lines, "", notes])


def _mean(values: list[float]) -> str:
    return f"{statistics.mean(values):.2f} ± {statistics.stdev(values):.2f}"
