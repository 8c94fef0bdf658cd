"""`RandomSearch`: a search that trains random genotypes once each, with a common seed, and chooses the best."""

from collections.abc import Iterator
from itertools import count

from sase_attn.genotype import Genotype
from sase_attn.search.methods.method import Method
from sase_attn.search.trained import Trained, Training
from sase_attn.training.data.order import hash_seed


class RandomSearch(Method):
    """Trains random genotypes and chooses the best: the baseline for other methods.

    Once each genotype of a small space is trained, all are trained again with fresh seeds.
    """

    def _stage(self, rows: list[Trained]) -> Iterator[Training]:
        drawn: dict[Genotype, None] = {}
        for number in count():
            if len(drawn) == self.space.size:
                break
            genotype = self.space.random(hash_seed(self.seed, number))
            if genotype not in drawn:
                drawn[genotype] = None
                yield Training(genotype, self.seed)
        yield from self._with_fresh_seeds(list(drawn))
