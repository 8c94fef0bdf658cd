"""Loaders of sets that stay on disk: timm's transforms on each image, in worker processes if so wished."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from timm.data import create_transform
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision import transforms

from sase_attn.training.data.config import DataConfig
from sase_attn.training.data.crop import PADDING
from sase_attn.training.data.file_dataset import FileDataset, Transform, collate
from sase_attn.training.data.loader import DataInfo
from sase_attn.training.data.normalise import Normalise
from sase_attn.training.data.order import Batches, Shard
from sase_attn.training.data.reading import report_broken

CROP_PCT = 0.875  # of the shorter side, in the centre: the test view that goes with "imagenet"


class FileLoader:
    """Batches out of files. The augmentation of an image is drawn from (seed, epoch, place of the image in the set).

    A broken image that is to be skipped makes its batch smaller by one, whenever it comes.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        targets: Sequence[int],
        transform: Transform,
        batches: Batches,
        normalise: Normalise,
        config: DataConfig,
        warn: bool,
    ) -> None:
        self._samples = FileDataset(paths, targets, transform, batches.seed)
        self._batches, self._normalise, self._config, self._warn = batches, normalise, config, warn
        self._broken: set[int] = set()
        self.batches = len(batches)

    @property
    def samples(self) -> int:
        """How many samples, over all ranks."""
        return self._batches.samples

    def subset(self, indices: Tensor, seed: int) -> "FileLoader":
        """The samples at `indices` (int64), in an order and with an augmentation that follow from `seed`."""
        own, batches = self._samples, self._batches.subset(indices, seed)
        return FileLoader(own.paths, own.targets, own.transform, batches, self._normalise, self._config, self._warn)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of an epoch from batch `start` on: normalised float32 (B, 3, H, W) and int64 targets (B,).

        Raises:
            ValueError: broken images that are refused, or nothing but broken images in a batch.
        """
        plan = [
            [(epoch, index) for index in indices[self._batches.own].tolist()]
            for _, indices in self._batches.epoch(epoch, start)
        ]
        workers = DataLoader(
            self._samples,
            batch_sampler=plan,
            num_workers=self._config.workers,
            collate_fn=collate,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator(),
        )
        for images, targets, broken in workers:
            self._report(broken)
            if not len(targets):
                raise ValueError("no image of a batch can be read; raise batch_size or remove the broken images")
            yield self._normalise(images), targets

    def _report(self, broken: list[int]) -> None:
        new = [index for index in broken if index not in self._broken]
        self._broken.update(new)
        paths = [self._samples.paths[index] for index in new]
        report_broken(paths, len(self._samples), self._config.on_broken, warn=self._warn)


def file_loaders(
    train: tuple[Sequence[Path], Sequence[int]],
    test: tuple[Sequence[Path], Sequence[int]],
    info: DataInfo,
    config: DataConfig,
    shard: Shard,
) -> tuple[FileLoader, FileLoader]:
    """Loaders of image files, paths and class numbers of each split, served at the (square) size of `info`."""
    normalise = Normalise(info.mean, info.std)
    loaders = []
    for training, (paths, targets) in ((True, train), (False, test)):
        batches = Batches(len(paths), config.batch_size, shard, training=training)
        transform = _transform(config, info.size[0], training)
        loaders.append(FileLoader(paths, targets, transform, batches, normalise, config, shard.rank == 0))
    return loaders[0], loaders[1]


def _transform(config: DataConfig, size: int, training: bool) -> Transform:
    if config.augment == "imagenet":
        jitter = config.color_jitter if training else None
        return create_transform(size, is_training=training, color_jitter=jitter, crop_pct=CROP_PCT, normalize=False)
    steps = [transforms.Resize(size), transforms.CenterCrop(size)]
    if training and config.augment == "cifar":
        steps += [transforms.RandomCrop(size, padding=PADDING), transforms.RandomHorizontalFlip()]
        if config.color_jitter:
            steps.append(transforms.ColorJitter(*config.color_jitter))
    return transforms.Compose([*steps, transforms.PILToTensor()])
