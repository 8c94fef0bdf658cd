"""A training that a search wants, and what one that has ended gave: the rows that every method reads."""

from dataclasses import dataclass

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
        top1: in percent, on images that did not train.
        loss: there.
    """

    training: Training
    top1: float
    loss: float
