"""`paired_differences` between networks that were trained with the same seeds, with intervals, tests and power.

A seed fixes initial weights, order and augmentation for every network, so that the difference of two accuracies of one
seed has less noise than either. Intervals and tests are by Student's t over the differences, with Holm's correction
over the networks; two one-sided tests show equality within a margin. Fewer than `FEWEST` seeds give no verdict.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from statistics import mean, stdev
from types import ModuleType

FEWEST = 5
"""With fewer seeds there is no interval and no verdict."""
LEVEL = 0.05
POWER = 0.8
MARGIN = 0.5
"""Percentage points within which two networks count as equal."""


@dataclass(frozen=True)
class Difference:
    """A network minus the reference, in percentage points of top-1 accuracy, over paired seeds.

    Attributes:
        label: the label of the network.
        reference: the label of the network that it is compared with.
        values: the difference of each seed.
        mean: the mean of the values.
        std: their sample standard deviation, or that of rounding to one image if it is larger; None for one seed.
        low, high: limits of the 95 % interval of the mean; None below `FEWEST` seeds.
        p: p-value of the two-sided test that the mean is 0, Holm-corrected over networks; None below `FEWEST` seeds.
        p_equal: p-value of the test that the mean is outside ±`MARGIN`, Holm-corrected likewise.
        visible: the smallest difference that this number of seeds would show with 80 % power, uncorrected.
        seeds_needed: the number of seeds that would show a difference of `MARGIN` with 80 % power, uncorrected.
        verdict: "better", "worse", "equal within 0.5", "inconclusive", or why nothing is judged.
    """

    label: str
    reference: str
    values: list[float]
    mean: float
    std: float | None
    low: float | None
    high: float | None
    p: float | None
    p_equal: float | None
    visible: float | None
    seeds_needed: int | None
    verdict: str


def paired_differences(
    accuracies: Mapping[str, Sequence[float]], reference: str, *, images: int | None = None
) -> list[Difference]:
    """Every network against the reference, in the order given.

    Args:
        accuracies: top-1 in percent by label, one value for each seed, in the same order of seeds everywhere.
        reference: one of the labels.
        images: the number of images that accuracy was measured on. The deviation of a difference is then at least that
            of rounding both accuracies to 100 / images, so that networks do not seem equal because images are few.

    Raises:
        ValueError: the reference is missing, or the networks have different numbers of seeds, or none.
        ImportError: scipy is not installed.
    """
    if reference not in accuracies:
        raise ValueError(f"reference: wanted one of {', '.join(accuracies)}, got {reference!r}")
    counts = {len(values) for values in accuracies.values()}
    if len(counts) != 1 or not all(counts):
        listed = ", ".join(f"{label} {len(values)}" for label, values in accuracies.items())
        raise ValueError(f"wanted the same seeds of every network, got {listed}")
    base = accuracies[reference]
    values = {
        label: [ours - theirs for ours, theirs in zip(found, base, strict=True)]
        for label, found in accuracies.items()
        if label != reference
    }
    if counts.pop() < FEWEST:
        return [_unjudged(label, reference, found) for label, found in values.items()]
    rounding = 100 / images / 6**0.5 if images else 0.0
    stds = {label: max(stdev(found), rounding) for label, found in values.items()}
    raw = holm({label: _p_different(found, stds[label]) for label, found in values.items()})
    equal = holm({label: _p_outside(found, stds[label], MARGIN) for label, found in values.items()})
    return [_judged(label, reference, found, stds[label], raw[label], equal[label]) for label, found in values.items()]


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's step-down correction: corrected p-values, to be compared with the level of the family-wise error."""
    corrected: dict[str, float] = {}
    largest = 0.0
    for rank, (label, p) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        largest = max(largest, min(1.0, p * (len(p_values) - rank)))
        corrected[label] = largest
    return {label: corrected[label] for label in p_values}


def visible_difference(std: float, seeds: int) -> float:
    """The smallest true difference that a paired t-test shows with 80 % power, two-sided 5 %.

    Args:
        std: standard deviation of the differences.
        seeds: the number of seeds, at least 2.

    Raises:
        ImportError: scipy is not installed.
    """
    if std == 0:
        return 0.0
    _stats()
    from scipy.optimize import brentq

    return float(std * brentq(lambda effect: _power(effect, seeds) - POWER, 0, 20))


def seeds_needed(std: float, difference: float = MARGIN, most: int = 100_000) -> int:
    """How many seeds a paired t-test needs to show a true difference with 80 % power, two-sided 5 %; at most `most`."""
    if std == 0:
        return 2
    few, many = 2, 2
    while many < most and _power(difference / std, many) < POWER:
        few, many = many, min(most, 2 * many)
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (few, middle) if _power(difference / std, middle) >= POWER else (middle, many)
    return many


def _power(effect: float, seeds: int) -> float:
    """The power of a two-sided paired t-test for a true difference of `effect` standard deviations."""
    stats = _stats()
    freedom = seeds - 1
    critical = stats.t.ppf(1 - LEVEL / 2, freedom)
    noncentrality = effect * seeds**0.5
    beyond = stats.nct.sf(critical, freedom, noncentrality) + stats.nct.cdf(-critical, freedom, noncentrality)
    return 1.0 if isnan(beyond) else float(beyond)  # scipy has no value for very large effects


def _p_different(values: Sequence[float], std: float) -> float:
    error = std / len(values) ** 0.5
    if error == 0:
        return float(mean(values) == 0)
    return float(2 * _stats().t.sf(abs(mean(values)) / error, len(values) - 1))


def _p_outside(values: Sequence[float], std: float, margin: float) -> float:
    """The p-value of two one-sided tests that the mean lies at or beyond ±margin."""
    error = std / len(values) ** 0.5
    if error == 0:
        return float(abs(mean(values)) >= margin)
    return float(_stats().t.sf((margin - abs(mean(values))) / error, len(values) - 1))


def _judged(label: str, reference: str, values: list[float], std: float, p: float, p_equal: float) -> Difference:
    center = mean(values)
    half = float(_stats().t.ppf(1 - LEVEL / 2, len(values) - 1)) * std / len(values) ** 0.5
    if p_equal < LEVEL:
        verdict = f"equal within {MARGIN:g}"
    elif p < LEVEL:
        verdict = "better" if center > 0 else "worse"
    else:
        verdict = "inconclusive"
    return Difference(
        label=label,
        reference=reference,
        values=values,
        mean=center,
        std=std,
        low=center - half,
        high=center + half,
        p=p,
        p_equal=p_equal,
        visible=visible_difference(std, len(values)),
        seeds_needed=seeds_needed(std),
        verdict=verdict,
    )


def _unjudged(label: str, reference: str, values: list[float]) -> Difference:
    return Difference(
        label=label,
        reference=reference,
        values=values,
        mean=mean(values),
        std=stdev(values) if len(values) > 1 else None,
        low=None,
        high=None,
        p=None,
        p_equal=None,
        visible=None,
        seeds_needed=None,
        verdict=f"not judged: {len(values)} of at least {FEWEST} seeds",
    )


def _stats() -> ModuleType:
    try:
        from scipy import stats
    except ImportError:
        raise ImportError('paired comparisons need scipy: pip install "sase-attn[search]"') from None
    return stats
