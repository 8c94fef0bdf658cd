"""`Race`: a search by successive halving, which trains the best genotypes again with fresh seeds."""

from collections.abc import Iterator
from itertools import islice

from sase_attn.search.methods.method import Method
from sase_attn.search.trained import Trained, Training


class Race(Method):
    """Trains many genotypes once, and the best of them again with more seeds, in rungs of equal cost.

    A budget below 8 has one rung, in which each genotype is trained once. Larger budgets have two rungs, and three from
    60 trainings on.
    """

    KEPT = 3
    """One genotype in three reaches the next rung."""
    LEVELS = ((60, 3), (8, 2), (0, 1))

    def rungs(self, budget: int) -> list[int]:
        """The number of genotypes of each rung."""
        levels = next(levels for least, levels in self.LEVELS if budget >= least)
        first = min(self.space.size, -(-budget // levels))
        return [max(2, round(first / self.KEPT**level)) if level else max(1, first) for level in range(levels)]

    def _stage(self, rows: list[Trained]) -> Iterator[Training]:
        first, *later = self.rungs(max(1, self.trainings - len(self._of_other_stages(rows))))
        opening = self._opening(rows, first)
        ended = {row.training for row in rows}
        if not ended.issuperset(opening):
            yield from opening
            return
        seeds, sizes = 0, later or [2]
        for size in sizes[:-1]:
            best = self._ranked(self._before(rows, seeds))[:size]
            again = max(1, round(first / size))
            rung = list(islice(self._with_fresh_seeds(best, seeds), again * len(best)))
            if not ended.issuperset(rung):
                yield from rung
                return
            seeds += again
        yield from self._with_fresh_seeds(self._ranked(self._before(rows, seeds))[: sizes[-1]], seeds)
