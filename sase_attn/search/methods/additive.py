"""`Additive`: a search that estimates effects of operations from balanced genotypes, then trains the best predicted."""

from collections.abc import Iterator

from sase_attn.search.additive_model import AdditiveModel
from sase_attn.search.methods.method import Method
from sase_attn.search.trained import Trained, Training


class Additive(Method):
    """Estimates the effect of each operation from balanced genotypes, then trains the most promising genotypes.

    Each round of the second part takes the best predicted genotypes of the whole space, whether they have been trained
    or not, and trains them with a new seed.
    """

    OPENING = 2 / 3
    """Share of the budget for balanced genotypes, each trained once."""
    ROUNDS = 2
    """Number of rounds that share the rest of the budget."""
    FEWEST = 8
    """A budget below this is spent on balanced genotypes alone."""

    def _stage(self, rows: list[Trained]) -> Iterator[Training]:
        budget = max(1, self.trainings - len(self._of_other_stages(rows)))
        first = min(self.space.size, budget if budget < self.FEWEST else round(budget * self.OPENING))
        opening = self._opening(rows, first)
        ended = {row.training for row in rows}
        number, wanted = 0, opening
        size = max(2, -(-(budget - first) // self.ROUNDS))
        while ended.issuperset(wanted):
            before = self._before(rows, number)
            failed = {row.training.genotype for row in before if row.failed}
            promising = self._model(before).best(size + len(failed))
            wanted = [Training(g, self._fresh_seed(number)) for g in promising if g not in failed][:size]
            if not wanted:  # all have failed
                return
            number += 1
        yield from wanted

    def _model(self, rows: list[Trained]) -> AdditiveModel:
        return AdditiveModel(self.space, rows)
