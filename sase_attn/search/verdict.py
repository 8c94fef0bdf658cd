"""Whether any network of a comparison is ahead beyond the spread of the seeds, and whether sub-networks foresaw it."""

from collections.abc import Iterator, Sequence
from statistics import mean

from sase_attn.search.comparison import Compared
from sase_attn.search.kendall import kendall


def rank_correlation(rows: Sequence[Compared]) -> tuple[float | None, float | None]:
    """Kendall's τ-b between accuracy as a sub-network and after retraining, and its p-value.

    None for both with fewer than three networks that have both accuracies, or where all are equal.
    """
    pairs = [(row.supernet_top1, row.mean) for row in rows if row.supernet_top1 is not None]
    if len(pairs) < 3:
        return None, None
    return kendall(*zip(*pairs, strict=True))


def verdict(rows: Sequence[Compared], test_images: int) -> list[str]:
    """Who is ahead, and by how much, in words, a line each.

    Args:
        rows: of a comparison, the best mean first.
        test_images: how many images accuracies were measured on.
    """
    first, *others = rows
    if not others:
        return ["one network: nothing to compare it with"]
    error = 100 * (first.mean / 100 * (1 - first.mean / 100) / test_images) ** 0.5
    return [
        _leader(rows),
        *_found_against_others(rows),
        f"{test_images:,} test images: the standard error of one accuracy is {error:.2f} points",
    ]


def _leader(rows: Sequence[Compared]) -> str:
    """The margin of the first over the second; "no confident winner" where it is below the seeds' spread."""
    first, second = rows[:2]
    margin = first.mean - second.mean
    ahead = lead(first.label, second.label, margin, "points")
    deviations = [row.std for row in rows if row.std is not None]
    if not deviations:
        return f"no confident winner: {ahead}, with one seed each, so that the spread of the seeds is unknown"
    spread = mean([deviation**2 for deviation in deviations]) ** 0.5
    seeds = f"the seeds of one network spread by {spread:.2f} (standard deviation, {len(first.top1)} seeds)"
    return (
        f"{ahead}; {seeds}"
        if margin >= spread and not _is_level(margin, 2)
        else f"no confident winner: {ahead}, and {seeds}"
    )


def _found_against_others(rows: Sequence[Compared]) -> Iterator[str]:
    """The found network against the one without attention, and against the mean of the random ones."""
    found = next((row for row in rows if row.label.startswith("found")), None)
    for name, rivals in (
        ("plain", [row for row in rows if row.label == "plain"]),
        ("the mean of the random ones", [row for row in rows if row.label.startswith("random")]),
    ):
        if found is not None and rivals:
            difference = found.mean - mean([row.mean for row in rivals])
            yield f"{found.label} against {name}: {_difference(difference)}"


def lead(first: str, second: str, margin: float, unit: str, digits: int = 2) -> str:
    """By how much the first is ahead of the second, in words; level where the margin would be printed as zero."""
    if _is_level(margin, digits):
        return f"{first} and {second} are level to {10**-digits:.{digits}f} {unit}"
    return f"{first} is ahead of {second} by {margin:.{digits}f} {unit}"


def _difference(points: float) -> str:
    return "level to 0.01 points" if _is_level(points, 2) else f"{points:+.2f} points"


def _is_level(margin: float, digits: int) -> bool:
    return round(margin, digits) == 0
