"""`variation`: how much genotypes differ, and trainings of one genotype: a two-way model with exact limits.

    value of genotype g with seed s  =  mean + a_g + b_s + e_gs,    all of a, b, e normal and independent

Every genotype is trained with every seed, so that the effects b of seeds drop out. With G genotypes and S seeds,
MSG the mean square between genotypes and MSE that of the residual, and θ = var(a)/var(e),

    MSG / (MSE · (1 + S·θ))  is distributed as  F with G − 1 and (G − 1)(S − 1) degrees of freedom,

which gives exact limits of θ and so of the intraclass correlation ICC = θ/(1 + θ): the share of var(a) in the variance
of trainings with the same seed. The limits of the standard deviation of a are those of Williams and Tukey,
which lie at 0 exactly where those of the ICC do.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, sqrt

import torch

from sase_attn.quoting import enumerated
from sase_attn.search.signal.distributions import beyond, quantile, stats

NO_DIFFERENCE = 1e-10
"""A deviation below this, relative to the values, is rounding."""


@dataclass(frozen=True)
class Variation:
    """Standard deviations of a measure, each with limits, and the intraclass correlation.

    Attributes:
        genotypes, seeds: their numbers; each genotype was trained with each seed.
        genotype_std, genotype_std_low, genotype_std_high: standard deviation of the true values of genotypes.
        residual_std, residual_std_low, residual_std_high: that of a training about genotype plus seed.
        icc, low, high: the share of genotypes in the variance of trainings with the same seed.
        p: p-value of the F test that genotypes do not differ, uncorrected; 1 if nothing differs at all.
    """

    genotypes: int
    seeds: int
    genotype_std: float
    genotype_std_low: float
    genotype_std_high: float
    residual_std: float
    residual_std_low: float
    residual_std_high: float
    icc: float
    low: float
    high: float
    p: float

    @property
    def all_equal(self) -> bool:
        """Whether all trainings of each seed ended the same, so that nothing can be estimated."""
        return self.genotype_std == self.residual_std == 0


def variation(values: Sequence[Sequence[float]], *, error: float = 0.05) -> Variation:
    """Fit the two-way model to values, with one row for each genotype and one column for each seed.

    Args:
        values: finite values, with at least two rows and two columns.
        error: the probability that a limit, lower or upper, is on the wrong side.

    Raises:
        ValueError: fewer rows or columns, or rows of different lengths.
        ImportError: scipy is not installed.
    """
    lengths = {len(row) for row in values}
    if len(values) < 2 or len(lengths) != 1 or min(lengths) < 2:
        found = enumerated(sorted(lengths) or [0])
        raise ValueError(f"wanted 2 genotypes or more with the same 2 seeds or more, got {len(values)} with {found}")
    between, residual = mean_squares(torch.tensor(values, dtype=torch.float64))
    count, seeds = len(values), lengths.pop()
    freedom, rest = count - 1, (count - 1) * (seeds - 1)
    ratio = inf if residual == 0 else between / residual
    large, small = beyond("f", error, freedom, rest), quantile("f", error, freedom, rest)
    if between == residual == 0:
        icc, low, high, p = 0.0, 0.0, 1.0, 1.0
    else:
        icc, low, high = (_icc((ratio / bound - 1) / seeds) for bound in (1, large, small))
        p = float(stats().f.sf(ratio, freedom, rest))
    return Variation(
        genotypes=count,
        seeds=seeds,
        genotype_std=sqrt(max(0, between - residual) / seeds),
        genotype_std_low=sqrt(
            max(0, freedom * (between - large * residual)) / (seeds * beyond("chi2", error, freedom))
        ),
        genotype_std_high=sqrt(
            max(0, freedom * (between - small * residual)) / (seeds * quantile("chi2", error, freedom))
        ),
        residual_std=sqrt(residual),
        residual_std_low=sqrt(rest * residual / beyond("chi2", error, rest)),
        residual_std_high=sqrt(rest * residual / quantile("chi2", error, rest)),
        icc=icc,
        low=low,
        high=high,
        p=p,
    )


def mean_squares(values: torch.Tensor) -> tuple[float, float]:
    """The mean squares of genotypes (rows) and of the residual, each 0 if it is only rounding."""
    rows, columns = values.shape
    of_rows, of_columns, mean = values.mean(1, keepdim=True), values.mean(0, keepdim=True), values.mean()
    between = columns * (of_rows - mean).square().sum() / (rows - 1)
    residual = (values - of_rows - of_columns + mean).square().sum() / ((rows - 1) * (columns - 1))
    rounding = float(values.abs().max() * NO_DIFFERENCE) ** 2
    return _unless_rounding(float(between), rounding), _unless_rounding(float(residual), rounding)


def _unless_rounding(square: float, rounding: float) -> float:
    return 0.0 if square <= rounding else square


def _icc(theta: float) -> float:
    """The intraclass correlation for a ratio of variances; a ratio below 0 counts as 0."""
    return 1.0 if theta == inf else max(0.0, theta) / (1 + max(0.0, theta))
