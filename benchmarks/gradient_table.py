"""The table of `results/search_gradient.jsonl`: errors of approximations of the gradient of alpha."""

import statistics

from rows import Row

from sase_attn.quoting import enumerated

WAYS = {f"1e-{power:02d}": f"finite difference, radius 1e-{power}" for power in range(1, 7)} | {
    "dropped": "without the second order",
    "released": "exact, but the last stage takes no virtual step",
}
TYPES = ("float32", "float64")


def gradients(rows: list[Row], place: str) -> str:
    """One line for each approximation: median and largest relative error over all steps and seeds, in both types.

    Args:
        rows: rows of errors, one for each type and seed, and rows of seconds, one for each recipe.
        place: the provenance of the rows, in words.
    """
    lines = [
        "| gradient of alpha | float32: median | worst | float64: median | worst |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    runs = {label: [row for row in rows if row["label"] == label] for label in TYPES}
    for key, name in WAYS.items():
        cells = []
        for mine in runs.values():
            values = [value for row in mine for value in row[key]]
            cells += [_short(statistics.median(values)), _short(max(values))] if values else ["", ""]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    counts = [
        f"{sum(len(row['dropped']) for row in mine)} steps of {len(mine)} seed{'s' * (len(mine) > 1)} in {label}"
        for label, mine in runs.items()
    ]
    ratios: dict[str, list[str]] = {}
    for row in rows:
        if "ratio" in row:
            regime = f"batch {row['batch_size']} and {row['size']}×{row['size']}"
            ratios.setdefault(regime, []).append(f"{row['ratio']:.2f}")
    costs = [f"{enumerated(values)} times (at {regime})" for regime, values in ratios.items()]
    return "\n".join(
        [
            *lines,
            "",
            f"Errors relative to the norm of the exact gradient, over {enumerated(counts)}; recipe `release` in the "
            "second order at batch 32 and 16×16, CIFAR-10 (JPEG). An exact step takes "
            f"{enumerated(costs)} the CPU time of one by the finite difference; {place}.",
        ]
    )


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}" if value >= 1e-3 else f"{value:.0e}"
