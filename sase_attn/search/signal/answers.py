"""The three answers, and how many trainings give one that decides."""

from dataclasses import dataclass

from sase_attn.search.signal.distributions import stats
from sase_attn.search.signal.variation import Variation

SIGNAL, NOTHING, UNDECIDED = "signal", "nothing to find", "not decided"
ERROR = 0.05
"""Probability, over all looks, that a limit is on the wrong side: that of "signal", and that of "nothing to find"."""
POWER = 0.8
MOST = 5000
"""Trainings that nobody would spend on the question."""
MORE_SEEDS = 4
"""Times the seeds of a look that may be advised."""


@dataclass(frozen=True)
class Size:
    """So many genotypes, each trained with so many seeds."""

    genotypes: int
    seeds: int

    @property
    def trainings(self) -> int:
        """Of all genotypes with all seeds."""
        return self.genotypes * self.seeds


def answer(found: Variation, threshold: float) -> str:
    """`SIGNAL`, `NOTHING` or `UNDECIDED`: whether the limits of the intraclass correlation leave the threshold out."""
    if found.low > threshold:
        return SIGNAL
    return NOTHING if found.high < threshold else UNDECIDED


def size_that_decides(icc: float, threshold: float, *, step: int, seeds: int, space_size: int) -> Size | None:
    """The fewest trainings that answer four times in five, by their last look, if the intraclass correlation is `icc`.

    Args:
        icc: the true one.
        threshold: that it is compared with.
        step: genotypes of a look.
        seeds: at least so many, and up to `MORE_SEEDS` times as many.
        space_size: genotypes that there are.

    Returns:
        The size, or None where all genotypes, or `MOST` trainings, are too few.

    Raises:
        ImportError: scipy is not installed.
    """
    found: list[Size] = []
    for count in range(seeds, MORE_SEEDS * seeds + 1, max(1, seeds // 2)):
        most = min([MOST, *(size.trainings for size in found)]) // count
        for looks in range(1, -(-min(space_size, most) // step) + 1):
            genotypes = min(looks * step, space_size)
            if genotypes > most:
                break
            if _power(icc, threshold, genotypes, looks, count) >= POWER:
                found.append(Size(genotypes, count))
                break
    return min(found, key=lambda size: size.trainings, default=None)


def _power(icc: float, threshold: float, genotypes: int, looks: int, seeds: int) -> float:
    """Of the last of so many looks, by the distribution of F."""
    f, freedom = stats().f, (genotypes - 1, (genotypes - 1) * (seeds - 1))
    true, limit = (1 + seeds * value / (1 - value) for value in (icc, threshold))
    above = float(f.isf(ERROR / looks, *freedom)) * limit
    below = float(f.ppf(ERROR / looks, *freedom)) * limit
    return float(f.sf(above / true, *freedom) + f.cdf(below / true, *freedom))
