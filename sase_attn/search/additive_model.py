"""`AdditiveModel`: expected accuracies of genotypes, from a regression on the trainings of some of them.

    accuracy of genotype g with seed s  =  seed_s + Σ_edges effect[operation of g] + own_g + residual

Here own_g is what the operations of a genotype do not explain. Effects, own parts and residuals are normal. A seed may
have any value, so that genotypes are compared within seeds.

Two numbers decide how much the model shrinks: the ratio of the variance between genotypes to that of the residual, and
the share of the former that is additive. A few trainings do not determine them. So the model averages over a grid of
both, weighted by likelihood; the variance of the residual is integrated out. For given numbers this is Gaussian process
regression: an expected value is a weighted sum of the accuracies, and the kernel of the additive part is the fraction
of edges in which two genotypes agree.
"""

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor

from sase_attn.genotype import EDGES, Genotype
from sase_attn.search.space import SearchSpace
from sase_attn.search.trained import Trained

ICCS = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""The grid of intraclass correlations: shares of genotypes in the variance of trainings with the same seed."""
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""The grid of additive shares of the variance between genotypes."""


@dataclass(frozen=True)
class _Fit:
    """For one additive share: eigenvalues and eigenvectors of the kernel, and the accuracies, both without seeds."""

    share: float
    values: Tensor
    vectors: Tensor
    rows: Tensor


@dataclass(frozen=True)
class Drawn:
    """A draw from the posterior distribution of the model.

    Attributes:
        effects: the effects of the operations of each edge, in points.
        own: the own part of each genotype that was trained, by its columns.
        own_std: standard deviation of own parts between genotypes.
        residual_std: standard deviation of a training about the sum of its genotype and its seed.
    """

    effects: list[list[float]]
    own: dict[tuple[int, ...], float]
    own_std: float
    residual_std: float


class AdditiveModel:
    """Expected accuracies of the genotypes of a space, given trainings of some of them.

    Args:
        space: the space of the genotypes.
        rows: the trainings; those that failed are left out. Their order does not matter.
        shares: additive shares to average over; (0,) is a model without effects of operations.

    Raises:
        ValueError: a genotype is not in the space.
    """

    def __init__(self, space: SearchSpace, rows: Iterable[Trained], shares: Sequence[float] = SHARES) -> None:
        self.space = space
        keyed = sorted(
            (space.columns(row.training.genotype), row.training.seed, row.top1) for row in rows if not row.failed
        )
        self.columns = [columns for columns, _, _ in keyed]
        self._top1 = torch.tensor([top1 for _, _, top1 in keyed], dtype=torch.float64)
        self._seeds = [seed for _, seed, _ in keyed]
        self._free = _without_seeds(self._seeds)
        self._fits = [self._fit(share) for share in shares]
        self._ratios = torch.tensor([icc / (1 - icc) for icc in ICCS], dtype=torch.float64)
        self.weights = torch.softmax(self._log_likelihoods().flatten(), 0).view(len(shares), len(ICCS))
        """The weights of the grid: one row for each additive share, one column for each intraclass correlation."""
        self._set_means()

    @property
    def icc(self) -> float:
        """The posterior mean of the intraclass correlation."""
        return float(self.weights.sum(0) @ torch.tensor(ICCS, dtype=torch.float64))

    def mean(self, genotype: Genotype) -> float:
        """By how many points a genotype is expected to be better than one that is not known."""
        return self.mean_of(self.space.columns(genotype))

    def mean_of(self, columns: Sequence[int]) -> float:
        """As `mean`, for a genotype that is given by its columns."""
        additive = sum(effects[column] for effects, column in zip(self.effects, columns, strict=True))
        return additive + self.own.get(tuple(columns), 0.0)

    def best(self, count: int) -> list[Genotype]:
        """Up to `count` genotypes of the whole space that are expected to be best, the best first."""
        sums: list[tuple[float, tuple[int, ...]]] = [(0.0, ())]
        most = count + len(self.own)  # own parts may lift or sink genotypes among the best sums
        for effects in self.effects:
            longer = [(total - effect, (*head, at)) for total, head in sums for at, effect in enumerate(effects)]
            sums = heapq.nsmallest(most, longer)
        found = {columns for _, columns in sums} | self.own.keys()
        ranked = heapq.nsmallest(count, ((-self.mean_of(columns), columns) for columns in found))
        return [self.space.genotype(columns) for _, columns in ranked]

    def draw(self, generator: torch.Generator) -> Drawn:
        """Draw effects, own parts and variances from their posterior distribution.

        Raises:
            ValueError: no two trainings have a common seed, so that nothing is known of genotypes.
        """
        if not self._free.shape[1]:
            raise ValueError(f"wanted two genotypes with a common seed, got {len(self.columns)} rows without")
        place = int(torch.multinomial(self.weights.flatten(), 1, generator=generator))
        fit, ratio = self._fits[place // len(ICCS)], float(self._ratios[place % len(ICCS)])
        square = _square(fit, torch.tensor([ratio], dtype=torch.float64))
        residual = float(square / _normal(generator, len(fit.rows)).square().sum()) ** 0.5
        own_std = residual * (ratio * (1 - fit.share)) ** 0.5
        effect_std = residual * (ratio * fit.share / len(EDGES)) ** 0.5
        effects = [(effect_std * _normal(generator, len(names))).tolist() for names in self.space.ops.values()]
        own = dict(zip(self.own, (own_std * _normal(generator, len(self.own))).tolist(), strict=True))
        made_up = [
            own[columns] + sum(values[at] for values, at in zip(effects, columns, strict=True))
            for columns in self.columns
        ]
        noise = residual * _normal(generator, len(self.columns))
        weights = self._row_weights(fit, ratio, self._top1 - torch.tensor(made_up, dtype=torch.float64) - noise)
        for values, more in zip(effects, self._by_operation(fit.share * weights), strict=True):
            values[:] = map(sum, zip(values, more, strict=True))
        for columns, more_own in zip(self.columns, ((1 - fit.share) * weights).tolist(), strict=True):
            own[columns] += more_own
        return Drawn(effects, own, own_std, residual)

    def _fit(self, share: float) -> _Fit:
        values, vectors = torch.linalg.eigh(self._kernel(share))
        return _Fit(share, values, vectors, self._free.T @ self._top1)

    def _kernel(self, share: float) -> Tensor:
        """The kernel of the trainings, projected to the space without seeds."""
        at = torch.tensor(self.columns, dtype=torch.int64).view(-1, len(EDGES))
        same = (at[:, None] == at[None]).to(torch.float64).mean(-1)
        return self._free.T @ (share * same + (1 - share) * (same == 1)) @ self._free

    def _log_likelihoods(self) -> Tensor:
        """The log likelihood at each point of the grid, with the variance of the residual integrated out."""
        found = []
        for fit in self._fits:
            variances = 1 + self._ratios[:, None] * fit.values.clamp(min=0)
            square = _square(fit, self._ratios)
            found.append(-0.5 * variances.log().sum(1) - 0.5 * len(fit.rows) * square.log())
        return torch.stack(found)

    def _set_means(self) -> None:
        """Set the posterior means of the effects of operations, of the own parts and of the seeds."""
        additive = own = torch.zeros(len(self.columns), dtype=torch.float64)
        for fit, weights in zip(self._fits, self.weights, strict=True):
            found = sum(
                weight * self._row_weights(fit, ratio, self._top1)
                for weight, ratio in zip(weights.tolist(), self._ratios.tolist(), strict=True)
            )
            additive, own = additive + fit.share * found, own + (1 - fit.share) * found
        self.effects = self._by_operation(additive)
        """The effects of the operations of each edge, in the order of `EDGES` and of the space."""
        self.own: dict[tuple[int, ...], float] = {}
        """The own part of each genotype that was trained, by its columns."""
        for columns, value in zip(self.columns, own.tolist(), strict=True):
            self.own[columns] = self.own.get(columns, 0.0) + value
        left: dict[int, list[float]] = {}
        for columns, seed, top1 in zip(self.columns, self._seeds, self._top1.tolist(), strict=True):
            left.setdefault(seed, []).append(top1 - self.mean_of(columns))
        self.seeds = {seed: fmean(values) for seed, values in left.items()}
        """The mean accuracy of each seed, less what its genotypes are expected to add."""

    def _row_weights(self, fit: _Fit, ratio: float, top1: Tensor) -> Tensor:
        """The weights by which expected values are sums over trainings, for one ratio of variances."""
        turned = fit.vectors.T @ (self._free.T @ top1)
        return self._free @ (fit.vectors @ (ratio * turned / (1 + ratio * fit.values.clamp(min=0))))

    def _by_operation(self, weights: Tensor) -> list[list[float]]:
        sums = [[0.0] * len(names) for names in self.space.ops.values()]
        for columns, weight in zip(self.columns, (weights / len(EDGES)).tolist(), strict=True):
            for effects, column in zip(sums, columns, strict=True):
                effects[column] += weight
        return sums


def _without_seeds(seeds: Sequence[int]) -> Tensor:
    """An orthonormal basis, in columns, of what is orthogonal to the indicator of each seed."""
    names = sorted(set(seeds))
    one_hot = torch.tensor([[float(seed == name) for name in names] for seed in seeds], dtype=torch.float64)
    one_hot = one_hot.view(len(seeds), len(names))
    return torch.linalg.qr(one_hot, mode="complete").Q[:, len(names) :]


def _square(fit: _Fit, ratios: Tensor) -> Tensor:
    """The sum of squares of the accuracies for each ratio of variances, in units of the variance of the residual."""
    variances = 1 + ratios[:, None] * fit.values.clamp(min=0)
    return ((fit.vectors.T @ fit.rows).square() / variances).sum(1).clamp(min=1e-30)


def _normal(generator: torch.Generator, count: int) -> Tensor:
    return torch.randn(count, generator=generator, dtype=torch.float64)
