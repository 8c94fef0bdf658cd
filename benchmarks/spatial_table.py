"""The table of `results/spatial.jsonl`: spatially-adaptive SE beside SE and SASE at unit gain, with paired seeds."""

import statistics

from gain_table import could_be_seen
from rows import Row

from sase_attn.comparison.networks import PLAIN
from sase_attn.comparison.paired import paired_differences


def spatial(rows: list[Row], place: str) -> str:
    """One line for each network: size, accuracy, paired difference to plain with interval, verdict.

    Args:
        rows: one for each network and seed; seeds that not all networks have are left out.
        place: the provenance of the rows, in words.
    """
    labels = sorted(dict.fromkeys(row["label"] for row in rows), key=lambda label: label != PLAIN)
    runs = {(row["label"], row["seed"]): row for row in rows}
    seeds = sorted(seed for seed in {row["seed"] for row in rows} if all((label, seed) in runs for label in labels))
    top1 = {label: [runs[label, seed]["top1"] for seed in seeds] for label in labels}
    lines = [
        "| network | parameters | top-1, % | minus plain, points | verdict |",
        "| --- | ---: | ---: | ---: | --- |",
    ]
    found = {difference.label: difference for difference in paired_differences(top1, PLAIN)}
    for label, values in top1.items():
        spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
        cells = [label, f"{runs[label, seeds[0]]['parameters']:,}", f"{statistics.mean(values):.2f}{spread}"]
        if label in found:
            difference = found[label]
            interval = "" if difference.low is None else f" [{difference.low:+.2f}, {difference.high:+.2f}]"
            cells += [f"{difference.mean:+.2f}{interval}", difference.verdict]
        else:
            cells += ["", ""]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(
        [
            *lines,
            "",
            f"{len(seeds)} paired seed{'s' * (len(seeds) > 1)}, mean ± standard deviation, 95 % interval, Holm's "
            f"correction; {could_be_seen(found.values())}"
            f"{rows[0]['steps']} steps of 64 images of 16×16 (JPEG-recompressed CIFAR-10, 7,680 "
            f"training images, no augmentation), {rows[0]['count']:,} test images; a ResNet of one bottleneck a stage; "
            f"{place}.",
        ]
    )
