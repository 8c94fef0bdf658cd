"""The effect of each operation on its edge, with intervals that hold for all of them together.

The value of a genotype is its mean over seeds, less that of all genotypes, which removes the effects of seeds. Each
edge is fitted alone: an operation's effect is its mean over the genotypes that have it, less the mean of these means
over the operations of the edge. In an additive model this is unbiased, because the operations of the other edges are
drawn independently. They are noise, which the deviation between genotypes of one operation measures. In balanced
blocks the operations of an edge vary against each other, so that the error is that of a single mean.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

from sase_attn.genotype import EDGES, Genotype
from sase_attn.search.signal.distributions import beyond
from sase_attn.search.space import SearchSpace


@dataclass(frozen=True)
class Effect:
    """What an operation of an edge adds to the mean of its edge.

    Attributes:
        edge, operation: the names of the edge and the operation.
        genotypes: the number of trained genotypes that have the operation.
        mean: the estimated effect, higher is better.
        low, high: the limits of its interval; None if there are fewer than twice as many genotypes as the edge has
            operations.
    """

    edge: str
    operation: str
    genotypes: int
    mean: float
    low: float | None
    high: float | None

    @property
    def verdict(self) -> str:
        """ "better" or "worse" than the mean of its edge, or "inconclusive"."""
        if self.low is None or self.high is None or self.low <= 0 <= self.high:
            return "inconclusive"
        return "better" if self.low > 0 else "worse"


def effects(values: Mapping[Genotype, Sequence[float]], space: SearchSpace, *, error: float = 0.05) -> list[Effect]:
    """The effects of all operations that were trained, on edges where there are two or more, in the order of the space.

    Args:
        values: the values of each genotype with the same seeds, higher is better.
        space: the space of the genotypes.
        error: probability that any interval of all, over all edges, misses its effect (Bonferroni).

    Raises:
        ImportError: scipy is not installed.
    """
    of_genotypes = {genotype: mean(found) for genotype, found in values.items()}
    edges: dict[str, dict[str, list[float]]] = {}
    for edge in EDGES:
        groups = {
            operation: [value for genotype, value in of_genotypes.items() if getattr(genotype, edge) == operation]
            for operation in space.ops[edge]
        }
        present = {operation: found for operation, found in groups.items() if found}
        if len(present) > 1:
            edges[edge] = present
    intervals = sum(map(len, edges.values()))
    return [effect for edge, groups in edges.items() for effect in _of_edge(edge, groups, error / max(1, intervals))]


def _of_edge(edge: str, groups: Mapping[str, Sequence[float]], error: float) -> list[Effect]:
    means = {operation: mean(found) for operation, found in groups.items()}
    center = mean(means.values())
    freedom = sum(map(len, groups.values())) - len(groups)
    squares = sum((value - means[operation]) ** 2 for operation, found in groups.items() for value in found)
    enough = freedom >= len(groups)
    half = beyond("t", error / 2, freedom) * (squares / freedom) ** 0.5 if enough else None
    found = []
    for operation, group in groups.items():
        effect, width = means[operation] - center, None if half is None else half / len(group) ** 0.5
        low, high = (None, None) if width is None else (effect - width, effect + width)
        found.append(Effect(edge, operation, len(group), effect, low, high))
    return found
