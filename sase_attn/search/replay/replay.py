"""`replay`: run a search method on simulated trainings, whose true accuracies are known."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from sase_attn.errors import unknown_name
from sase_attn.genotype import Genotype
from sase_attn.search.methods import METHODS
from sase_attn.search.replay.world import World
from sase_attn.search.space import SearchSpace
from sase_attn.search.trained import Trained, Training


class Searcher(Protocol):
    """What `replay` tries: the methods of `sase_attn.search.methods`, or your own."""

    def wanted(self, done: Sequence[Trained]) -> list[Training]:
        """The next trainings, given those that have ended; none at the end."""
        ...

    def choose(self, done: Sequence[Trained]) -> Genotype:
        """The genotype that was found."""
        ...


Maker = Callable[[SearchSpace, int, int], Searcher]
"""Makes a searcher from a space, a number of trainings and a seed."""


@dataclass(frozen=True)
class Replayed:
    """What a method found in a world.

    Attributes:
        genotype: the genotype that it chose.
        gain: the true value of the choice minus the mean of all genotypes, in points.
        trainings: how many trainings it used.
        cost: the cost in trainings, including the `overhead` of the method.
    """

    genotype: Genotype
    gain: float
    trainings: int
    cost: float


def replay(searcher: str | Maker, world: World, trainings: int, *, seed: int = 0, overhead: float = 0.0) -> Replayed:
    """Try a search method in a world. Its choice is scored by the true value, never by trainings that it has seen.

    A method of your own is a class, here one that trains each genotype with two seeds:

        from sase_attn.search import SearchSpace
        from sase_attn.search.replay import Training, replay, world_at

        class Twice:
            def __init__(self, space, trainings, seed):
                found = [space.random(seed + number) for number in range(trainings // 2)]
                self.plan = [Training(genotype, number) for genotype in found for number in (0, 1)]

            def wanted(self, done):
                return self.plan[len(done) :]

            def choose(self, done):
                sums = {}
                for row in done:
                    sums[row.training.genotype] = sums.get(row.training.genotype, 0) + row.top1
                return max(sums, key=sums.get)

        replay(Twice, world_at(SearchSpace.get("release"), icc=0.3), trainings=20).gain

    Args:
        searcher: a name of `METHODS`, or a class or function that is called with a space, a number of trainings and a
            seed.
        world: see `world_at` and `SpaceTable.world`.
        trainings: the budget.
        seed: the seed of the searcher.
        overhead: cost in addition to the trainings, such as that of a super-network, in trainings.

    Raises:
        UnknownNameError: no such method.
        ValueError: the searcher wants more than its budget, or the same training twice, or none at all.
    """
    if isinstance(searcher, str):
        if searcher not in METHODS:
            raise unknown_name("method", searcher, METHODS)
        searcher = METHODS[searcher]
    method = searcher(world.space, trainings, seed)
    done: dict[Training, Trained] = {}
    while wanted := method.wanted(list(done.values())):
        if again := [training for training in wanted if training in done]:
            raise ValueError(f"wanted new trainings of the searcher, got one that has ended: {again[0]}")
        if len(done) + len(wanted) > trainings:
            raise ValueError(f"wanted at most {trainings} trainings of the searcher, got {len(done) + len(wanted)}")
        done |= {training: world.train(training) for training in wanted}
    if not done:
        raise ValueError("wanted a training or more of the searcher, got none")
    genotype = method.choose(list(done.values()))
    return Replayed(genotype, world.value(genotype), len(done), len(done) + overhead)
