"""Which samples each step of an epoch takes, as a pure function of the seed and the epoch."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import blake2b

import torch
from torch import Tensor


def hashed(*key: int) -> int:
    """A seed of 63 bits that no two keys, such as (seed, epoch, batch), are expected to share."""
    return int.from_bytes(blake2b(repr(key).encode(), digest_size=8).digest(), "big") >> 1


def generator(*key: int) -> torch.Generator:
    """A generator on the CPU, seeded by the key."""
    return torch.Generator().manual_seed(hashed(*key))


@dataclass(frozen=True)
class Share:
    """The seed of a run, and which of its processes this is."""

    seed: int
    rank: int = 0
    world_size: int = 1


class Batches:
    """The global batches of an epoch, and this rank's share of each: every `world_size`-th sample from `rank` on.

    No sample is dropped: the last batch is smaller. In training every rank needs a sample in each batch, so a last
    batch of fewer samples than ranks joins the one before it. In a test a rank without a sample of the last batch has
    one batch less.

    Args:
        count: samples.
        batch_size: samples a batch, over all ranks.
        share: whose batches.
        training: shuffled, or in order for a test.
        members: places of the samples in their set, if they are only a part of it.

    Raises:
        ValueError: fewer training samples, or a smaller batch, than ranks.
    """

    def __init__(
        self, count: int, batch_size: int, share: Share, *, training: bool, members: Tensor | None = None
    ) -> None:
        self.seed, self.training = share.seed, training
        self._batch_size, self._share, self._members = batch_size, share, members
        for what, value in (("batch_size", batch_size), ("number of training images", count)):
            if training and value < share.world_size:
                raise ValueError(f"{what}: wanted at least one for each of {share.world_size} processes, got {value}")
        self.bounds = [*range(0, count, batch_size), count]
        if training and count - self.bounds[-2] < share.world_size:
            del self.bounds[-2]
        self.count = len(self.bounds) - 1
        if not training and share.rank >= count - self.bounds[-2]:
            self.count -= 1
        self.own = slice(share.rank, None, share.world_size)

    def __len__(self) -> int:
        return self.count

    @property
    def samples(self) -> int:
        """How many samples, over all ranks."""
        return self.bounds[-1]

    def part(self, members: Tensor, seed: int) -> "Batches":
        """Training batches of some of the samples, in an order of their own."""
        places = members if self._members is None else self._members[members]
        share = replace(self._share, seed=seed)
        return Batches(len(members), self._batch_size, share, training=True, members=places)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[int, Tensor]]:
        """Number and samples of each global batch from batch `start` on. Raises ValueError past the last one."""
        if not 0 <= start <= len(self):
            raise ValueError(f"start: wanted a batch from 0 to {len(self)}, got {start}")
        order = torch.arange(self.bounds[-1])
        if self.training:
            order = torch.randperm(self.bounds[-1], generator=generator(self.seed, epoch))
        for batch in range(start, len(self)):
            chosen = order[self.bounds[batch] : self.bounds[batch + 1]]
            yield batch, chosen if self._members is None else self._members[chosen]
