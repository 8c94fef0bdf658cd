"""The table of `results/space_STEPS.jsonl`: do genotypes differ more in longer trainings?"""

from rows import Row, read_rows

from sase_attn.search.signal.variation import Variation, variation
from space.cases import GENOTYPES, SEEDS, study

CONSTANT = "channel_squeeze:l2norm"
"""The operation whose output does not depend on the map."""


def variations(rows: list[Row], measure: str = "top1") -> dict[int, Variation]:
    """The variation between genotypes and trainings, for each length with two genotypes or more that have all seeds.

    Args:
        rows: the rows of all lengths; those of controls are ignored.
        measure: "top1" or "loss".
    """
    found = {}
    for steps in sorted({row["steps"] for row in rows}):
        values: dict[str, dict[int, float]] = {}
        for row in rows:
            if row["steps"] == steps and row["block"] is not None:
                values.setdefault(row["label"], {})[row["seed"]] = row[measure]
        whole = [[by_seed[seed] for seed in sorted(by_seed)] for by_seed in values.values() if len(by_seed) == SEEDS]
        if len(whole) > 1:
            found[steps] = variation(whole, error=0.025)
    return found


def without_constant(rows: list[Row]) -> list[Row]:
    """The rows without those of genotypes whose channel squeeze is a constant."""
    return [row for row in rows if CONSTANT not in row["label"].split(",")]


def all_rows() -> list[Row]:
    """The rows of all lengths."""
    return [row for steps in GENOTYPES for row in read_rows(study(steps))]


def lengths(rows: list[Row], place: str) -> str:
    """Two lines for each length: intraclass correlation with its interval, by accuracy and by loss, and deviations.

    The second line leaves out the genotypes whose channel squeeze is a constant.

    Args:
        rows: the rows of all lengths.
        place: the provenance of the rows, in words.
    """
    lines = [
        "| steps | genotypes | genotypes × seeds | ICC of top-1 [95 %] | between genotypes, points | residual, "
        "points | ICC of the loss [95 %] |",
        "| ---: | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    kinds = {"all": rows, f"without `{CONSTANT}`": without_constant(rows)}
    found = {kind: (variations(its), variations(its, "loss")) for kind, its in kinds.items()}
    for steps in found["all"][0]:
        for kind, (accuracies, losses) in found.items():
            if steps in accuracies:
                lines.append(f"| {steps:,} | {kind} | {_cells(accuracies[steps])} | {_icc(losses[steps])} |")
    setting = (
        "steps of 64 images of 16×16 (JPEG-recompressed CIFAR-10, 7,680 training images, no augmentation), "
        f"{rows[0]['count']:,} test images, unit gain"
    )
    return "\n".join(
        [
            *lines,
            "",
            f"ICC: share of genotypes in the variance of a training, the seed taken out; {setting}; {place}.",
        ]
    )


def _cells(found: Variation) -> str:
    between = f"{found.genotype_std:.2f} [{found.genotype_std_low:.2f}, {found.genotype_std_high:.2f}]"
    return f"{found.genotypes} × {found.seeds} | {_icc(found)} | {between} | {found.residual_std:.2f}"


def _icc(found: Variation) -> str:
    return f"{found.icc:.2f} [{found.low:.2f}, {found.high:.2f}]"
