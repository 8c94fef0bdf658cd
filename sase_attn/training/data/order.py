"""`Batches`: the samples of each step of an epoch, as a pure function of the seed and the epoch."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import blake2b

import torch
from torch import Tensor

from sase_attn.training.data.sampling import draw_epoch


def hash_seed(*key: int) -> int:
    """A seed of 63 bits from a key such as (seed, epoch, batch); different keys are not expected to collide."""
    return int.from_bytes(blake2b(repr(key).encode(), digest_size=8).digest(), "big") >> 1


def seeded_generator(*key: int) -> torch.Generator:
    """A generator on the CPU, seeded by the key."""
    return torch.Generator().manual_seed(hash_seed(*key))


@dataclass(frozen=True)
class Shard:
    """The part of each batch that one process of a run gets: every `world_size`-th sample, from `rank` on.

    `seed` is the seed of the run, which fixes the order and the augmentation.
    """

    seed: int
    rank: int = 0
    world_size: int = 1


class Batches:
    """The global batches of an epoch, and this rank's shard of each.

    No sample is dropped: the last batch is smaller. In training every rank needs a sample in each batch, and batch norm
    on 1x1 maps needs two. So a last batch with fewer samples than ranks, or with a single one where batches have more,
    is merged with the one before it. In a test, a rank without a sample of the last batch has one batch less.

    Args:
        count: the number of samples.
        batch_size: samples in a batch, over all ranks.
        shard: the shard of this process.
        training: whether samples are shuffled for training, or in order for a test.
        indices: indices of the samples in their set (int64), if they are only a subset of it.
        sampling: how an epoch of training draws samples: a name of `SAMPLINGS`.
        targets: the class of each sample of the set (int64), for any sampling except "shuffle".

    Raises:
        ValueError: fewer training samples, or a smaller batch, than ranks.
    """

    def __init__(
        self,
        count: int,
        batch_size: int,
        shard: Shard,
        *,
        training: bool,
        indices: Tensor | None = None,
        sampling: str = "shuffle",
        targets: Tensor | None = None,
    ) -> None:
        self.seed, self.training, self.sampling, self._targets = shard.seed, training, sampling, targets
        self._batch_size, self._shard, self._indices = batch_size, shard, indices
        for what, value in (("batch_size", batch_size), ("number of training images", count)):
            if training and value < shard.world_size:
                raise ValueError(f"{what}: wanted at least one for each of {shard.world_size} processes, got {value}")
        self.bounds = [*range(0, count, batch_size), count]
        fewest = max(min(2, batch_size), shard.world_size)
        if training and len(self.bounds) > 2 and count - self.bounds[-2] < fewest:
            del self.bounds[-2]
        self.count = len(self.bounds) - 1
        if not training and shard.rank >= count - self.bounds[-2]:
            self.count -= 1
        self.own = slice(shard.rank, None, shard.world_size)

    def __len__(self) -> int:
        return self.count

    @property
    def samples(self) -> int:
        """Number of samples, over all ranks."""
        return self.bounds[-1]

    def subset(self, indices: Tensor, seed: int) -> "Batches":
        """Training batches of the samples at `indices`, in an order that follows from `seed`."""
        places = indices if self._indices is None else self._indices[indices]
        shard = replace(self._shard, seed=seed)
        return Batches(
            len(indices),
            self._batch_size,
            shard,
            training=True,
            indices=places,
            sampling=self.sampling,
            targets=self._targets,
        )

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[int, Tensor]]:
        """Number and samples of each global batch from batch `start` on. Raises ValueError past the last one."""
        if not 0 <= start <= len(self):
            raise ValueError(f"start: wanted a batch from 0 to {len(self)}, got {start}")
        order = self._order(epoch)
        for batch in range(start, len(self)):
            chosen = order[self.bounds[batch] : self.bounds[batch + 1]]
            yield batch, chosen if self._indices is None else self._indices[chosen]

    def _order(self, epoch: int) -> Tensor:
        if not self.training:
            return torch.arange(self.bounds[-1])
        generator = seeded_generator(self.seed, epoch)
        if self._targets is None:
            return torch.randperm(self.bounds[-1], generator=generator)
        targets = self._targets if self._indices is None else self._targets[self._indices]
        return draw_epoch(targets, self.sampling, generator)
