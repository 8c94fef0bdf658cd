"""What a search can gain over a random genotype, if the values of genotypes and the noise of trainings are normal.

A normal distribution is unbounded, but real accuracies are not: the best genotype of a large space may be worse than
this.
"""

from dataclasses import dataclass
from functools import cache
from math import exp, expm1

import torch

from sase_attn.search.signal.distributions import stats
from sase_attn.search.signal.variation import Variation
from sase_attn.training.data.order import seeded_generator

TRAININGS = (10, 20, 42, 84, 168)
WORLDS = 1000


@dataclass(frozen=True)
class Gain:
    """Expected true value of the chosen genotype after a number of trainings, less that of a random genotype.

    Attributes:
        trainings: the number of trainings.
        best_of: the gain if each training is of another genotype, and the best is chosen.
        race: the gain of a race, see `race`.
        low, high: the gain of a race at the limits of the deviation between genotypes.
    """

    trainings: int
    best_of: float
    race: float
    low: float
    high: float


def gains(found: Variation) -> list[Gain]:
    """The gain at each number of `TRAININGS`. Raises ImportError without scipy."""
    residual = found.residual_std
    return [
        Gain(
            trainings=count,
            best_of=best_of(found.genotype_std, residual, count),
            race=race(found.genotype_std, residual, count),
            low=race(found.genotype_std_low, residual, count),
            high=race(found.genotype_std_high, residual, count),
        )
        for count in TRAININGS
    ]


@cache
def expected_maximum(count: int) -> float:
    """The mean of the largest of `count` standard normal numbers. Raises ImportError without scipy."""
    log_cdf = stats().norm.logcdf
    from scipy.integrate import quad

    above = quad(lambda x: -expm1(count * log_cdf(x)), 0, 40, limit=200, points=[2, 5, 8])[0]
    below = quad(lambda x: exp(count * log_cdf(x)), -40, 0, limit=200, points=[-8, -5, -2])[0]
    return float(above - below)


def best_of(genotype_std: float, residual_std: float, count: int) -> float:
    """The expected true value of the genotype whose single training was the best of `count`."""
    total = (genotype_std**2 + residual_std**2) ** 0.5
    return genotype_std**2 / total * expected_maximum(count) if total else 0.0


def race(genotype_std: float, residual_std: float, trainings: int) -> float:
    """The expected true value of the genotype that a race chooses, by simulation with fixed random numbers.

    Random genotypes are trained once. The best third share as many trainings again, with fresh seeds. From 60 trainings
    on, the best third of these do so once more. The genotype with the best mean is chosen.
    """
    if not genotype_std:
        return 0.0
    rungs = 3 if trainings >= 60 else 2 if trainings >= 8 else 1
    first = -(-trainings // rungs)
    normal = _normal(first)
    truth = genotype_std * normal[0]
    places = torch.arange(first).expand(WORLDS, -1)
    means, seeds = truth + residual_std * normal[1], 1
    for rung in range(1, rungs):
        means, best = means.topk(max(2, round(first / 3**rung)), dim=1)
        places = places.gather(1, best)
        again = round(first / places.shape[1])
        fresh = truth.gather(1, places) + residual_std / again**0.5 * normal[rung + 1][:, : places.shape[1]]
        means, seeds = (seeds * means + again * fresh) / (seeds + again), seeds + again
    chosen = places.gather(1, means.argmax(1, keepdim=True))
    return float(truth.gather(1, chosen).mean() - truth.mean())


@cache
def _normal(count: int) -> torch.Tensor:
    """Standard normal numbers for genotypes, and for their trainings in each of three rungs."""
    return torch.randn(4, WORLDS, count, generator=seeded_generator(0), dtype=torch.float64)
