"""The table of `results/search_confirm.jsonl`: the found genotype and others, trained with fresh seeds."""

import statistics

from gain_table import could_be_seen, interval
from rows import Row

from sase_attn.comparison.networks import PLAIN
from sase_attn.comparison.paired import paired_differences


def confirmed(rows: list[Row], place: str) -> str:
    """One line for each network: accuracy, paired difference to plain with its interval, verdict.

    Args:
        rows: one for each training, of all networks with the same seeds.
        place: the provenance of the rows, in words.
    """
    top1: dict[str, list[float]] = {}
    for row in sorted(rows, key=lambda row: int(row["seed"])):
        top1.setdefault(row["label"], []).append(row["top1"])
    first = rows[0]
    found = {one.label: one for one in paired_differences(top1, PLAIN, images=first["count"])}
    lines = ["| network | top-1, % | minus plain, points | verdict |", "| --- | ---: | ---: | --- |"]
    for label, values in top1.items():
        mean = f"{statistics.mean(values):.2f} ± {statistics.stdev(values):.2f}"
        lines.append(f"| {label} | {mean} | {interval(found.get(label))} |")
    notes = (
        f"The look for signal answered: {first['answer']}. After {first['trainings']} trainings of {first['epochs']} "
        f"epochs: {first['reason']}. {len(top1[PLAIN])} paired seeds that did not choose, mean ± standard deviation, "
        f"95 % interval, Holm's correction; {could_be_seen(found.values())}"
        f"embedded Fashion-MNIST at 16×16, {first['count']:,} test images; {place}."
    )
    return "\n".join([*lines, "", notes])
