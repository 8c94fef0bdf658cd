"""`Method`: the base of all searches by trainings from scratch. It holds their budget and assigns seeds."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from itertools import count, islice

from sase_attn.genotype import Genotype
from sase_attn.search.additive_model import AdditiveModel
from sase_attn.search.balanced import balanced_blocks
from sase_attn.search.space import SearchSpace
from sase_attn.search.trained import Trained, Training

FRESH = 100
"""Later trainings of a genotype have the method's seed plus this or more; a look for signal uses lower seeds."""


class Method(ABC):
    """Base of the methods that find a genotype by trainings from scratch.

    What a method wants and chooses depends only on its settings and on the trainings that have ended.

    Args:
        space: the space of the genotypes.
        trainings: the budget. All trainings count, also those of a look for signal and those that failed.
        seed: fixes the genotypes of the first trainings, and is their seed.

    Raises:
        ValueError: a budget that is not a whole number of at least 1.
    """

    def __init__(self, space: SearchSpace, trainings: int, seed: int = 0) -> None:
        if not isinstance(trainings, int):
            raise ValueError(f"trainings: wanted a whole number, got {trainings!r}")
        if trainings < 1:
            raise ValueError(f"trainings: wanted at least 1, got {trainings}")
        self.space, self.trainings, self.seed = space, trainings, seed

    def wanted(self, done: Sequence[Trained]) -> list[Training]:
        """The trainings that may run now, in parallel, the most urgent first; none when the budget is used.

        Args:
            done: the trainings that have ended, in any order.

        Raises:
            ValueError: a genotype is not in the space.
        """
        rows = sorted_rows(self.space, done)
        ended = {row.training for row in rows}
        missing = (training for training in self._stage(rows) if training not in ended)
        return list(islice(missing, max(0, self.trainings - len(ended))))

    def choose(self, done: Sequence[Trained]) -> Genotype:
        """The genotype with the highest expected accuracy, given the trainings.

        Raises:
            ValueError: all trainings failed, or a genotype is not in the space.
        """
        rows = sorted_rows(self.space, done)
        if all(row.failed for row in rows):
            raise ValueError(f"wanted a training that did not fail, got {len(rows)} that did")
        return self._ranked(rows)[0]

    @abstractmethod
    def _stage(self, rows: list[Trained]) -> Iterable[Training]:
        """The trainings of the present stage, ended or not. They may be endless: the budget cuts them off.

        They stay the same until all of them have ended, whichever end first.
        """

    def _ranked(self, rows: list[Trained]) -> list[Genotype]:
        """The genotypes that were trained, the best first; those with a training that failed come last."""
        model = self._model(rows)
        failed = {row.training.genotype for row in rows if row.failed}
        genotypes = dict.fromkeys(row.training.genotype for row in rows)
        return sorted(genotypes, key=lambda genotype: (genotype in failed, -model.mean(genotype)))

    def _model(self, rows: list[Trained]) -> AdditiveModel:
        """A model that learns about each genotype from its own trainings alone."""
        return AdditiveModel(self.space, rows, shares=(0.0,))

    def _fresh_seed(self, number: int) -> int:
        return self.seed + FRESH + number

    def _before(self, rows: list[Trained], number: int) -> list[Trained]:
        """The trainings without those of the fresh seed of this number or a later one."""
        return [row for row in rows if row.training.seed < self._fresh_seed(number)]

    def _balanced(self) -> Iterator[Genotype]:
        """All genotypes of the space in balanced order, each once."""
        blocks = balanced_blocks(self.space, seed=self.seed)
        seen: dict[Genotype, None] = {}
        while len(seen) < self.space.size:
            for genotype in next(blocks):
                if genotype not in seen:
                    seen[genotype] = None
                    yield genotype

    def _opening(self, rows: list[Trained], size: int) -> list[Training]:
        """Balanced genotypes with the method's own seed, `size` in all with those that were trained with it before."""
        balanced = list(islice(self._balanced(), size))
        before = {row.training.genotype for row in rows if row.training.seed == self.seed}.difference(balanced)
        return [Training(genotype, self.seed) for genotype in balanced[: max(0, size - len(before))]]

    def _of_other_stages(self, rows: list[Trained]) -> list[Training]:
        """The trainings with other seeds than the method uses, such as those of a look for signal."""
        return [row.training for row in self._before(rows, 0) if row.training.seed != self.seed]

    def _with_fresh_seeds(self, genotypes: Sequence[Genotype], first: int = 0) -> Iterator[Training]:
        """An endless iterator: all genotypes with one fresh seed, then all with the next."""
        for number in count(first) if genotypes else ():
            for genotype in genotypes:
                yield Training(genotype, self._fresh_seed(number))


def sorted_rows(space: SearchSpace, done: Iterable[Trained]) -> list[Trained]:
    """Each training once, in an order that does not depend on the order in which they are given."""
    ordered = sorted(done, key=lambda row: (space.columns(row.training.genotype), row.training.seed))
    return list({row.training: row for row in ordered}.values())
