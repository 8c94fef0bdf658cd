"""`MemoryLoader`: a loader of a set that is held in memory as uint8."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

from sase_attn.training.data.augment import Augment
from sase_attn.training.data.config import DataConfig
from sase_attn.training.data.identity import DataIdentity, digest_of_tensors
from sase_attn.training.data.loader import DataInfo
from sase_attn.training.data.normalise import Normalise
from sase_attn.training.data.order import Batches, Shard, seeded_generator
from sase_attn.training.data.sets import Arrays

MEMORY_BYTES = 2**30
CHANNELS = 3


class MemoryLoader:
    """Batches from a tensor. The augmentation is drawn for the global batch, by (seed, epoch, batch)."""

    def __init__(self, images: Tensor, targets: Tensor, batches: Batches, augment: Augment, normalise: Normalise):
        self._images, self._targets, self._batches = images, targets, batches
        self._augment, self._normalise = augment, normalise
        self.batches = len(batches)

    @property
    def samples(self) -> int:
        """Number of samples, over all ranks."""
        return self._batches.samples

    @property
    def targets(self) -> Tensor:
        """The class of each sample of the whole set, in the set's order (int64)."""
        return self._targets

    @property
    def sampling(self) -> str:
        """How epochs draw images: a name of `SAMPLINGS`."""
        return self._batches.sampling

    def subset(self, indices: Tensor, seed: int) -> "MemoryLoader":
        """The samples at `indices` (int64), in an order and with an augmentation that follow from `seed`."""
        batches = self._batches.subset(indices, seed)
        return MemoryLoader(self._images, self._targets, batches, self._augment, self._normalise)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of an epoch from batch `start` on: normalised float32 (B, 3, H, W) and int64 targets (B,)."""
        height, width = self._images.shape[2:]
        for batch, index in self._batches.epoch(epoch, start):
            draws = self._augment.draw(len(index), (height, width), seeded_generator(self._batches.seed, epoch, batch))
            index, own = index[self._batches.own], {name: x[self._batches.own] for name, x in draws.items()}
            images = self._images[index].expand(-1, CHANNELS, -1, -1)
            yield self._normalise(self._augment(images, own)), self._targets[index]


def identity_of(arrays: Arrays) -> DataIdentity:
    """The identity of the data of arrays."""
    counts = len(arrays.train[1]), len(arrays.test[1])
    return DataIdentity(arrays.classes, *counts, digest_of_tensors(*arrays.train), digest_of_tensors(*arrays.test))


def memory_loaders(
    arrays: Arrays, identity: DataIdentity, config: DataConfig, shard: Shard
) -> tuple[MemoryLoader, MemoryLoader, DataInfo]:
    """Loaders of arrays by the configuration, and a description of the data.

    Larger images than its size are shrunk once, smaller ones are enlarged batch by batch, after the crop.
    """
    height, width = arrays.train[0].shape[2:]
    size = (height, width) if config.size is None else (config.size, config.size)
    counts = len(arrays.train[1]), len(arrays.test[1])
    info = DataInfo(arrays.name, arrays.classes, CHANNELS, size, arrays.mean, arrays.std, *counts, identity=identity)
    train, test = (
        memory_loader(*split, info, config, shard, training=training)
        for split, training in ((arrays.train, True), (arrays.test, False))
    )
    return train, test, info


def memory_loader(
    images: Tensor, targets: Tensor, info: DataInfo, config: DataConfig, shard: Shard, *, training: bool
) -> MemoryLoader:
    """A loader of one split, with images of the size of `info`."""
    size = info.size
    if images.shape[2] > size[0] or images.shape[3] > size[1]:
        images = torch.cat([_shrunk(part, size) for part in torch.split(images, 1000)])
    augment = Augment(config.augment, size, config.color_jitter or ()) if training else Augment("none", size)
    sampling = config.sampling if training else "shuffle"
    batches = Batches(len(images), config.batch_size, shard, training=training, sampling=sampling, targets=targets)
    return MemoryLoader(images, targets, batches, augment, Normalise(info.mean, info.std))


def _shrunk(images: Tensor, size: tuple[int, int]) -> Tensor:
    return transforms.resize(images.float(), list(size)).round_().byte()
