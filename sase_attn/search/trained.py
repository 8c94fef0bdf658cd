"""`Training`, `Trained` and `Plan`: a training that a search wants, its accuracy and loss, and what decides on them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from sase_attn.genotype import Genotype


@dataclass(frozen=True)
class Training:
    """A training from scratch: a genotype with a seed, by the recipe of the search.

    The seed fixes initial weights, order and augmentation, so that trainings of one seed are paired.
    """

    genotype: Genotype
    seed: int


@dataclass(frozen=True)
class Trained:
    """A training that has ended.

    Attributes:
        training: the genotype and the seed.
        top1: accuracy in percent, on images that it was not trained on; 0 if it failed.
        loss: loss on the same images; infinite if it failed.
    """

    training: Training
    top1: float
    loss: float

    @classmethod
    def failure(cls, training: Training) -> "Trained":
        """A training that diverged or could not be run. It uses budget, and is worse than all that did not fail."""
        return cls(training, 0.0, math.inf)

    @property
    def failed(self) -> bool:
        """Whether it diverged or could not be trained, and so has no accuracy."""
        return not math.isfinite(self.loss)


class Plan(Protocol):
    """What decides which trainings are wanted: a method, or a look for signal.

    It depends on nothing but its own settings and the trainings that it is given. So it answers the same after a
    restart, to every worker, and in a replay.
    """

    def wanted(self, done: Sequence[Trained]) -> list[Training]:
        """The trainings that may run now, in parallel, the most urgent first; none when the plan is complete.

        Args:
            done: the trainings that have ended, in the order in which they were first wanted.
        """
        ...
