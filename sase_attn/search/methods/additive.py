"""`Additive`: balanced genotypes, effects of operations by edge from them, the best predicted ones confirmed."""

from collections.abc import Iterator

from sase_attn.search.additive_model import AdditiveModel
from sase_attn.search.methods.method import Method
from sase_attn.search.trained import Trained, Training


class Additive(Method):
    """Estimates the effect of each operation from balanced genotypes, then trains the most promising genotypes.

    A round takes its genotypes from the whole space, trained ones among them, and trains them with a seed of its own.
    """

    OPENING = 2 / 3
    """Share of the budget that balanced genotypes take, each once."""
    ROUNDS = 2
    """Rounds that share the rest."""
    FEWEST = 8
    """A smaller budget is all opening."""

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
