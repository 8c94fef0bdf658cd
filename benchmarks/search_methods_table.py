"""The table of `results/search_methods.jsonl`: gains of methods, by kind of world and number of trainings."""

import statistics

from rows import Row

from sase_attn.quoting import enumerated


def searchers(rows: list[Row], place: str) -> str:
    """One line for each kind of world and method, one column for each number of trainings: mean gain, 95 % interval.

    Args:
        rows: one for each method, kind of world and number of trainings.
        place: the provenance of the rows, in words.
    """
    numbers = sorted({row["trainings"] for row in rows})
    lines = [
        f"| worlds | method | {' | '.join(f'{number} trainings' for number in numbers)} |",
        "| --- | --- |" + " ---: |" * len(numbers),
    ]
    for world in dict.fromkeys(row["world"] for row in rows):
        of_world = [row for row in rows if row["world"] == world]
        for label in dict.fromkeys(row["label"] for row in of_world):
            cells = [_cell(of_world, label, number) for number in numbers]
            lines.append(f"| {world} | {label} | {' | '.join(cells)} |")
    counts = sorted({len(row["gains"]) for row in rows})
    worlds = enumerated(counts, "or")
    return "\n".join(
        [
            *lines,
            "",
            "True value of the choice minus the mean of all genotypes, points of top-1, with the 95 % interval of the "
            f"mean over {worlds} worlds; **bold**: the best mean, and those that paired worlds do not tell from it; "
            f"{place}.",
        ]
    )


def _cell(rows: list[Row], label: str, trainings: int) -> str:
    found = {row["label"]: row["gains"] for row in rows if row["trainings"] == trainings}
    if label not in found:
        return ""
    gains = found[label]
    half = 1.96 * statistics.stdev(gains) / len(gains) ** 0.5
    text = f"{statistics.mean(gains):.2f}"
    best = max(found.values(), key=statistics.mean)
    if any(map(any, found.values())) and not _below(gains, best):
        text = f"**{text}**"
    return f"{text} ± {half:.2f}"


def _below(gains: list[float], best: list[float]) -> bool:
    """Whether a method is worse than the best one, by paired worlds."""
    both = [theirs - ours for ours, theirs in zip(gains, best, strict=False)]
    return any(both) and statistics.mean(both) > 1.96 * statistics.stdev(both) / len(both) ** 0.5
