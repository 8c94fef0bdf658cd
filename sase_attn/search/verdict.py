"""Whether any network of a comparison is ahead beyond the spread of the seeds, and what sub-networks' accuracy told."""

from collections.abc import Sequence
from statistics import mean

from sase_attn.search.comparison import Compared
from sase_attn.search.kendall import kendall


def rank_correlation(rows: Sequence[Compared]) -> tuple[float | None, float | None]:
    """Kendall's τ-b between accuracy as a sub-network and after retraining, and its p-value."""
    pairs = [(row.supernet_top1, row.mean) for row in rows if row.supernet_top1 is not None]
    if len(pairs) < 3:
        return None, None
    return kendall(*zip(*pairs, strict=True))


def verdict(rows: Sequence[Compared], test_images: int) -> list[str]:
    """Who is ahead, in words; "no confident winner" where the margin is below the seeds' spread. Best mean first."""
    first, *others = rows
    if not others:
        return ["one network: nothing to compare it with"]
    second = others[0]
    margin = first.mean - second.mean
    ahead = f"{first.label} is ahead of {second.label} by {margin:.2f} points"
    spreads = [row.std for row in rows if row.std is not None]
    lines = []
    if not spreads:
        lines.append(f"no confident winner: {ahead}, with one seed each, so that the spread of the seeds is unknown")
    else:
        spread = mean([std**2 for std in spreads]) ** 0.5
        seeds = f"the seeds of one network spread by {spread:.2f} (standard deviation, {len(first.top1)} seeds)"
        lines.append(f"{ahead}; {seeds}" if margin >= spread else f"no confident winner: {ahead}, and {seeds}")
    found = next((row for row in rows if row.label.startswith("found")), None)
    for label, rivals in (
        ("plain", [row for row in rows if row.label == "plain"]),
        ("the mean of the random ones", [row for row in rows if row.label.startswith("random")]),
    ):
        if found is not None and rivals:
            difference = found.mean - mean([row.mean for row in rivals])
            lines.append(f"{found.label} against {label}: {difference:+.2f} points")
    error = 100 * (first.mean / 100 * (1 - first.mean / 100) / test_images) ** 0.5
    lines.append(f"{test_images:,} test images: the standard error of one accuracy is {error:.2f} points")
    return lines
