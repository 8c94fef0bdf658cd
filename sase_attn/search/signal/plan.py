"""`SignalPlan`: the trainings of a look for signal, block by block, until they answer the question."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isfinite

from sase_attn.errors import unknown_name
from sase_attn.genotype import Genotype
from sase_attn.search.balanced import balanced_blocks, block_size
from sase_attn.search.signal.answers import ERROR, UNDECIDED, answer
from sase_attn.search.signal.variation import variation
from sase_attn.search.space import SearchSpace
from sase_attn.search.trained import Trained, Training

MEASURES = ("top1", "loss")
FEWEST = 7
"""Smallest number of genotypes of the first look."""


@dataclass(frozen=True)
class SignalPlan:
    """Trainings of balanced genotypes with the same seeds, until there is an answer or the budget is used.

    Balanced genotypes come in blocks, in which each operation of an edge occurs once. The first look tests seven
    genotypes, or the next whole number of blocks. Each later look adds as many. The plan ends once the interval of the
    intraclass correlation lies on one side of the threshold: above it the answer is "signal", below it "nothing to
    find". Each limit errs with 5 % over all looks together: the error of one look is 5 % divided by the number of looks
    that the budget allows (Bonferroni), so that more looks only widen the intervals.

    `wanted` depends on nothing but the trainings that are done, so that resuming and several workers change nothing.

    Args:
        space: the space of the genotypes, with at least two.
        budget: the largest number of trainings.
        threshold: the intraclass correlation from which a search is worth its cost.
        seeds: the seeds that each genotype is trained with.
        measure: the measure that decides, "top1" or "loss". The other one is only shown.
        seed: fixes the genotypes.

    Raises:
        ValueError: a budget below the first look, fewer than two seeds or one twice, a space of one genotype, or a
            threshold that is not between 0 and 1.
        UnknownNameError: no such measure.
    """

    space: SearchSpace
    budget: int = 84
    threshold: float = 0.2
    seeds: tuple[int, ...] = (0, 1, 2, 3)
    measure: str = "top1"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.measure not in MEASURES:
            raise unknown_name("measure", self.measure, MEASURES)
        if not 0 < self.threshold < 1:
            raise ValueError(f"threshold: wanted a number between 0 and 1, got {self.threshold!r}")
        if len(set(self.seeds)) != len(self.seeds) or len(self.seeds) < 2:
            raise ValueError(f"seeds: wanted 2 or more, each once, got {', '.join(map(str, self.seeds)) or 'none'}")
        if self.space.size < 2:
            raise ValueError("space: wanted 2 genotypes or more, got 1")
        if self.budget < self.step * len(self.seeds):
            first = f"{self.step * len(self.seeds)} or more ({self.step} genotypes with {len(self.seeds)} seeds)"
            raise ValueError(f"budget: wanted {first}, got {self.budget}")

    @property
    def step(self) -> int:
        """The number of genotypes that each look adds."""
        size = block_size(self.space)
        return min(self.space.size, -(-FEWEST // size) * size)

    @property
    def looks(self) -> int:
        """The number of looks that the budget and the space allow."""
        return min(self.budget // (self.step * len(self.seeds)), -(-self.space.size // self.step))

    @property
    def error(self) -> float:
        """The error probability of each limit in one look."""
        return ERROR / self.looks

    @cached_property
    def genotypes(self) -> list[Genotype]:
        """All genotypes that the budget allows, in the order in which they are trained."""
        count = min(self.looks * self.step, self.space.size)
        found: dict[Genotype, None] = {}
        for block in balanced_blocks(self.space, seed=self.seed):
            found |= dict.fromkeys(block)
            if len(found) >= count:
                break
        return list(found)[:count]

    def wanted(self, done: Sequence[Trained]) -> list[Training]:
        """The trainings of the next look that have not ended, to run in parallel; none when the question is answered.

        A training that failed has ended: it has a value that is not finite.
        """
        look, ended = self._reached(done)
        if ended or look == self.looks:
            return []
        finished = {row.training for row in done}
        return [training for training in self._trainings(look + 1) if training not in finished]

    def look(self, done: Sequence[Trained]) -> int:
        """The number, from 1, of the look that answered, or else of the last complete one; 0 if there is none."""
        return self._reached(done)[0]

    def rows(self, done: Sequence[Trained], look: int) -> dict[Genotype, list[Trained]]:
        """The trainings of each genotype of a look, by seed, without genotypes of which a training failed."""
        found = {row.training: row for row in done}
        genotypes = self.genotypes[: look * self.step]
        rows = {one: [found[Training(one, seed)] for seed in self.seeds] for one in genotypes}
        return {one: row for one, row in rows.items() if all(isfinite(it.top1) and isfinite(it.loss) for it in row)}

    def _trainings(self, look: int) -> list[Training]:
        genotypes = self.genotypes[: look * self.step]
        return [Training(one, seed) for seed in self.seeds for one in genotypes]

    def _reached(self, done: Sequence[Trained]) -> tuple[int, bool]:
        """The last look, and whether it answered."""
        finished = {row.training for row in done}
        for look in range(1, self.looks + 1):
            if not finished.issuperset(self._trainings(look)):
                return look - 1, False
            rows = self.rows(done, look)
            if len(rows) > 1:
                found = variation(measured(rows, self.measure), error=self.error)
                if found.all_equal or answer(found, self.threshold) != UNDECIDED:
                    return look, True
        return self.looks, False


def measured(rows: Mapping[Genotype, Sequence[Trained]], measure: str) -> list[list[float]]:
    """A measure of trainings, one row for each genotype, higher is better: top-1, or the negative loss."""
    return [[row.top1 if measure == "top1" else -row.loss for row in found] for found in rows.values()]
