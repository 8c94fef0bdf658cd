"""`SinglePathSearcher`: train shared weights by one random genotype in each step.

Guo et al., Single Path One-Shot Neural Architecture Search with Uniform Sampling, arXiv 1904.00420: there is no alpha.
A step draws a genotype uniformly, trains its operations alone, and costs about as much as a step of a network with that
block. Genotypes are then scored as sub-networks, see `choose`. Deviation: the genotypes to score are drawn at random,
where the paper has an evolutionary search.

An operation that was not drawn has a gradient of None, not of zero: neither weight decay nor momentum moves it, and its
momentum is kept until it is drawn again.
"""

from collections.abc import Iterator
from typing import Any

import torch

from sase_attn.search.config import PATH_DRAW
from sase_attn.search.shared_weights.bilevel import Batch
from sase_attn.search.shared_weights.loop import Searcher
from sase_attn.search.space import SearchSpace
from sase_attn.training.data.order import seeded_generator
from sase_attn.training.pace import pace_text


def drawn_columns(space: SearchSpace, seed: int, step: int) -> tuple[int, ...]:
    """The column of each edge that a step trains: uniform, and a function of the seed and the step alone."""
    generator = seeded_generator(seed, PATH_DRAW, step)
    return tuple(int(torch.randint(len(names), (), generator=generator)) for names in space.ops.values())


class SinglePathSearcher(Searcher):
    """One training of shared weights, with the arguments of a `Searcher`. The images for alpha only score."""

    RATES = "lr or clip_grad"

    def batches(self) -> Iterator[tuple[Batch, ...]]:
        """Batches for the weights; sets the learning rate of the epoch."""
        return ((batch,) for batch in self.weight_batches())

    def update(self, train: Batch, *val: Batch) -> dict[str, Any]:
        """Train the weights of the step's genotype. Raises DivergedError."""
        columns = drawn_columns(self.space, self.settings.seed, self.global_step)
        with self.architecture.choose(columns):
            loss, norm = self.bilevel.weight_step(train)
        return {"train_loss": loss, "weight_grad_norm": norm, "genotype": str(self.space.genotype(columns))}

    def end_epoch(self) -> None:
        """Log the mean loss of the epoch's genotypes."""
        row = self.write("epoch", train_loss=self.progress.train_loss / self.progress.count)
        epoch, epochs = self.progress.epoch + 1, self.settings.epochs
        self.echo(f"epoch {epoch}/{epochs}  loss {row['train_loss']:.4f}  {pace_text(row)}")
