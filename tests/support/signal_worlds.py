"""Simulated results of genotypes × seeds with a known intraclass correlation, and a reference analysis of many."""

import numpy
from scipy import stats

ERROR = 0.05


def draw(icc, worlds, genotypes, seeds, *, residual="normal", of_genotypes="normal", seed=0):
    """Values (worlds, genotypes, seeds): seeds differ most; a training deviates by 1 from its genotype and seed."""
    generator = numpy.random.default_rng(seed)
    make = {
        "normal": generator.standard_normal,
        "heavy tails": lambda shape: generator.standard_t(4, shape) / 2**0.5,
        "skewed": lambda shape: generator.exponential(size=shape) - 1,
    }
    std = (icc / (1 - icc)) ** 0.5
    noise = make[residual]((worlds, genotypes, seeds)) + 2 * generator.standard_normal((worlds, 1, seeds))
    return 60 + std * make[of_genotypes]((worlds, genotypes, 1)) + noise


def judge(values, threshold, *, step, looks):
    """For each world: the look at which it ends, the answer (1 signal, −1 nothing, 0 undecided), the ICC's limits."""
    worlds, _, seeds = values.shape
    answers, ends, limits = numpy.zeros(worlds, int), numpy.full(worlds, looks), numpy.zeros((worlds, 2))
    for look in range(1, looks + 1):
        seen = values[:, : step * look]
        centred = seen - seen.mean(1, keepdims=True)
        rows = centred.mean(2)
        freedom = step * look - 1
        rest = freedom * (seeds - 1)
        between = seeds * (rows**2).sum(1) / freedom
        residual = ((centred - rows[:, :, None]) ** 2).sum((1, 2)) / rest
        for column, p in enumerate((1 - ERROR / looks, ERROR / looks)):
            theta = numpy.clip((between / residual / stats.f.ppf(p, freedom, rest) - 1) / seeds, 0, None)
            limits[answers == 0, column] = (theta / (1 + theta))[answers == 0]
        found = numpy.where(limits[:, 0] > threshold, 1, numpy.where(limits[:, 1] < threshold, -1, 0))
        ends[(answers == 0) & (found != 0)] = look
        answers = numpy.where(answers == 0, found, answers)
    return ends, answers, limits
