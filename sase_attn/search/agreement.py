"""`agreement`: how often searches that differ only in their seed choose the same operations."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import mean

from sase_attn.comparison.kendall import kendall
from sase_attn.genotype import EDGES
from sase_attn.search.result import SearchResult


@dataclass(frozen=True)
class Agreement:
    """How far searches agree.

    Attributes:
        genotypes: the genotype that each seed found.
        same: for each edge, the fraction of all pairs of seeds that chose the same operation.
        tau: for each edge, the mean over pairs of seeds of Kendall's τ between their rankings of its operations; None
            where it is not defined, as without alpha.
        chance: what `same` would be on average if operations were drawn at random.
    """

    genotypes: dict[str, str]
    same: dict[str, float]
    tau: dict[str, float | None]
    chance: dict[str, float]

    def lines(self) -> list[str]:
        """The agreement as text: one line for each seed, then one for each edge."""
        return [f"seed {seed}: {genotype}" for seed, genotype in self.genotypes.items()] + [
            f"{edge}: {100 * self.same[edge]:.0f} % of pairs of seeds agree (by chance {100 * self.chance[edge]:.0f} %)"
            + ("" if self.tau[edge] is None else f", τ of the rankings {self.tau[edge]:.2f}")
            for edge in EDGES
        ]


def agreement(results: Sequence[SearchResult]) -> Agreement:
    """Compare the choices of two searches or more over one space.

    Raises:
        ValueError: fewer than two, or different spaces. ImportError: scipy is not installed.
    """
    if len(results) < 2 or any(result.columns != results[0].columns for result in results):
        raise ValueError(f"wanted two searches or more over one space, got {len(results)}")
    same, taus, chance = {}, {}, {}
    for row, edge in enumerate(EDGES):
        pairs = list(combinations(results, 2))
        same[edge] = mean(getattr(a.found, edge) == getattr(b.found, edge) for a, b in pairs)
        count = len(results[0].columns[edge])
        chance[edge] = 1 / count
        alphas = [(a.alpha[row][:count], b.alpha[row][:count]) for a, b in pairs if a.alpha and b.alpha]
        ranks = [tau for first, second in alphas if (tau := kendall(first, second)[0]) is not None]
        taus[edge] = mean(ranks) if len(ranks) == len(pairs) else None
    names = {str(result.config["seed"]): result.genotype for result in results}
    return Agreement(names, same, taus, chance)
