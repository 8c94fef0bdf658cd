"""`SignalPlan`: which trainings the question needs, block by block, until it is answered."""

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
"""Genotypes of the first look."""


@dataclass(frozen=True)
class SignalPlan:
    """Plan of a look for signal: balanced genotypes with the same seeds, until the answer is known or the budget used.

    Balanced genotypes come in blocks, in which each operation of an edge occurs once. The first look is at seven
    genotypes, or the next whole number of blocks. Each later one adds as many. Once a limit of the intraclass
    correlation has passed the threshold, the plan ends: the lower one above it is "signal", the
    upper one below it is "nothing to find". Each limit errs with 5 % over all looks together: every look spends 5 %
    divided by the number of looks that the budget allows (Bonferroni), so that looking often costs nothing but width.

    `wanted` depends on nothing but the trainings that are done, so that resuming and several workers change nothing.

    Args:
        space: of the genotypes, two at least.
        budget: trainings at most.
        threshold: intraclass correlation from which a search is worth its cost.
        seeds: of the trainings of each genotype.
        measure: that is judged, "top1" or "loss". The other one is shown.
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
        """Genotypes that each look adds."""
        size = block_size(self.space)
        return min(self.space.size, -(-FEWEST // size) * size)

    @property
    def looks(self) -> int:
        """How many the budget, and the space, allow."""
        return min(self.budget // (self.step * len(self.seeds)), -(-self.space.size // self.step))

    @property
    def error(self) -> float:
        """That each limit of one look spends."""
        return ERROR / self.looks

    @cached_property
    def genotypes(self) -> list[Genotype]:
        """All that the budget allows, in the order in which they are trained."""
        count = min(self.looks * self.step, self.space.size)
        found: dict[Genotype, None] = {}
        for block in balanced_blocks(self.space, seed=self.seed):
            found |= dict.fromkeys(block)
            if len(found) >= count:
                break
        return list(found)[:count]

    def wanted(self, done: Sequence[Trained]) -> list[Training]:
        """The trainings of the next look that are not done, side by side; none when the question is answered.

        One that failed counts as done: its row has a value that is not finite.
        """
        look, ended = self._reached(done)
        if ended or look == self.looks:
            return []
        finished = {row.training for row in done}
        return [training for training in self._trainings(look + 1) if training not in finished]

    def look(self, done: Sequence[Trained]) -> int:
        """The look that answered, or else the last one whose trainings are all done, from 1 on; 0 if there is none."""
        return self._reached(done)[0]

    def rows(self, done: Sequence[Trained], look: int) -> dict[Genotype, list[Trained]]:
        """Of each genotype of a look its trainings, by seed; a genotype with one that failed is left out."""
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
    """A measure of trainings, a row a genotype, higher is better: top-1, or the loss with its sign turned."""
    return [[row.top1 if measure == "top1" else -row.loss for row in found] for found in rows.values()]
