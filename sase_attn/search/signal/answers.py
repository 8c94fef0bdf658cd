"""`answer`: the three answers of a look for signal; `size_that_decides`: how many trainings one needs."""

from dataclasses import dataclass

from sase_attn.search.signal.distributions import stats
from sase_attn.search.signal.variation import Variation

SIGNAL, NOTHING, UNDECIDED = "signal", "nothing to find", "not decided"
ERROR = 0.05
"""Probability over all looks that a limit is on the wrong side, separately for "signal" and "nothing to find"."""
POWER = 0.8
MOST = 5000
"""The largest number of trainings that is ever advised."""
MORE_SEEDS = 4
"""The largest number of seeds that is advised, in multiples of those of the look."""


@dataclass(frozen=True)
class Size:
    """A number of genotypes, each trained with a number of seeds."""

    genotypes: int
    seeds: int

    @property
    def trainings(self) -> int:
        """The number of trainings of all genotypes with all seeds."""
        return self.genotypes * self.seeds


def answer(found: Variation, threshold: float) -> str:
    """`SIGNAL` if the intraclass correlation's interval is above the threshold, `NOTHING` if below, or `UNDECIDED`."""
    if found.low > threshold:
        return SIGNAL
    return NOTHING if found.high < threshold else UNDECIDED


def size_that_decides(icc: float, threshold: float, *, step: int, seeds: int, space_size: int) -> Size | None:
    """The fewest trainings whose last look gives an answer four times in five.

    Args:
        icc: the true intraclass correlation that is assumed.
        threshold: the threshold of the answers.
        step: the number of genotypes that each look adds.
        seeds: the smallest number of seeds; up to `MORE_SEEDS` times as many are tried.
        space_size: the number of genotypes in the space.

    Returns:
        The size, or None if all genotypes, or `MOST` trainings, are too few.

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
    """The probability that the last of these looks gives an answer, by the distribution of F."""
    f, freedom = stats().f, (genotypes - 1, (genotypes - 1) * (seeds - 1))
    true, limit = (1 + seeds * value / (1 - value) for value in (icc, threshold))
    above = float(f.isf(ERROR / looks, *freedom)) * limit
    below = float(f.ppf(ERROR / looks, *freedom)) * limit
    return float(f.sf(above / true, *freedom) + f.cdf(below / true, *freedom))
