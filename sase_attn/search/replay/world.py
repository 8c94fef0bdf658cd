"""`World`: simulated trainings, which take microseconds, of genotypes whose true accuracies are known."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from math import inf
from statistics import NormalDist

import torch

from sase_attn.genotype import Genotype
from sase_attn.search.space import SearchSpace
from sase_attn.search.trained import Trained, Training
from sase_attn.training.data.order import seeded_generator

_STANDARD = NormalDist()
LOSS_A_POINT = 0.03
"""How much the loss falls for each point of accuracy."""


@dataclass(frozen=True)
class World:
    """Accuracies by the model of `sase_attn.search.additive_model`, with its numbers known.

    Each random number is computed from `key` and the genotype or seed. So the order of calls does not matter, and no
    list of all genotypes is needed.

    Args:
        space: the space of the genotypes.
        effects: the effects of the operations of each edge, in points.
        own_std: standard deviation between genotypes of what their operations do not explain.
        residual_std: standard deviation of a training about the sum of its genotype and its seed.
        seed_std: standard deviation between seeds.
        mean: mean accuracy in percent.
        own: own parts of genotypes for which they are known, by columns.
        key: the key of the random numbers.
    """

    space: SearchSpace
    effects: Sequence[Sequence[float]]
    own_std: float
    residual_std: float
    seed_std: float = 1.0
    mean: float = 50.0
    own: Mapping[tuple[int, ...], float] = field(default_factory=dict)
    key: int = 0

    def value(self, genotype: Genotype) -> float:
        """The true value of a genotype, in points above the mean of the space. Raises ValueError if it is not in it."""
        columns = self.space.columns(genotype)
        additive = sum(
            effects[column] - sum(effects) / len(effects) for effects, column in zip(self.effects, columns, strict=True)
        )
        own = self.own.get(columns)
        return additive + (self.own_std * self._normal("own", columns) if own is None else own)

    def train(self, training: Training) -> Trained:
        """The result of a training, the same each time. Raises ValueError if its genotype is not in the space."""
        columns = self.space.columns(training.genotype)
        of_seed = self.seed_std * self._normal("seed", training.seed)
        residual = self.residual_std * self._normal("training", columns, training.seed)
        top1 = self.mean + self.value(training.genotype) + of_seed + residual
        return Trained(training, top1, LOSS_A_POINT * (100 - top1))

    def _normal(self, *what: object) -> float:
        """A number from the standard normal distribution, fixed by the arguments."""
        digest = blake2b(repr((self.key, *what)).encode(), digest_size=7).digest()
        return _STANDARD.inv_cdf((int.from_bytes(digest, "big") + 0.5) / 2**56)


def world_at(space: SearchSpace, icc: float, *, key: int = 0, share: float = 0.7, residual_std: float = 0.61) -> World:
    """A world with a given intraclass correlation: the share of genotypes in the variance of trainings of one seed.

    The values of operations are drawn, so the share in one world differs from `icc`. On average it is lower, since few
    values spread less than their distribution: about 0.28 for 0.3 with seven operations an edge.

    Args:
        space: the space of the genotypes.
        icc: the intraclass correlation; at 0 all genotypes are equal.
        key: the key of the random numbers; the same key makes the same world.
        share: the share of the variance between genotypes that is additive by edge.
        residual_std: standard deviation of a training about the sum of its genotype and its seed, in points.

    Raises:
        ValueError: an intraclass correlation that is not in [0, 1), a share outside [0, 1], or a negative standard
            deviation.
    """
    if not 0 <= icc < 1:
        raise ValueError(f"icc: wanted a number from 0 to below 1, got {icc!r}")
    if not 0 <= share <= 1:
        raise ValueError(f"share: wanted a number from 0 to 1, got {share!r}")
    if not 0 <= residual_std < inf:
        raise ValueError(f"residual_std: wanted a number of at least 0, got {residual_std!r}")
    between = residual_std * (icc / (1 - icc)) ** 0.5
    generator = seeded_generator(key)
    effects = [
        (between * (share / len(space.ops)) ** 0.5 * torch.randn(len(names), generator=generator)).tolist()
        for names in space.ops.values()
    ]
    return World(space, effects, between * (1 - share) ** 0.5, residual_std, key=key)
