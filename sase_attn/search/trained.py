"""A training that a search wants, and what one that has ended gave: the rows that every method reads."""

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
        training: which.
        top1: in percent, on images that did not train; 0 if it failed.
        loss: there; infinite if it failed.
    """

    training: Training
    top1: float
    loss: float

    @classmethod
    def failure(cls, training: Training) -> "Trained":
        """One that diverged, or could not be trained: it is used up, and worse than all that did not fail."""
        return cls(training, 0.0, math.inf)

    @property
    def failed(self) -> bool:
        """Whether it diverged or could not be trained, and so has no accuracy."""
        return not math.isfinite(self.loss)


class Plan(Protocol):
    """What decides which trainings are wanted: a method, or a look for signal.

    It depends on nothing but its own settings and the rows that it is shown. So it says the same after a restart, to
    every worker, and in a replay.
    """

    def wanted(self, done: Sequence[Trained]) -> list[Training]:
        """The trainings that may run now side by side, the most urgent first; none when the plan is through.

        Args:
            done: those that have ended, in the order in which they were first asked for.
        """
        ...
