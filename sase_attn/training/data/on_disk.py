"""`FileLoader`: a loader of sets that stay on disk, which applies timm's transforms, in worker processes if any."""

from collections.abc import Iterator
from functools import partial

import torch
from timm.data import create_transform
from torch import Tensor
from torchvision import transforms

from sase_attn.training.data.config import DataConfig
from sase_attn.training.data.crop import PADDING
from sase_attn.training.data.file_dataset import FileDataset, Key, Transform, collate
from sase_attn.training.data.folder import ImageFiles
from sase_attn.training.data.loader import DataInfo
from sase_attn.training.data.normalise import Normalise
from sase_attn.training.data.order import Batches, Shard
from sase_attn.training.data.reading import Broken, report_broken
from sase_attn.training.data.view import View
from sase_attn.training.data.workers import Workers

CROP_PCT = 0.875  # the central part of the shorter side in test images, with augment "imagenet"


class FileLoader:
    """Batches from files. The augmentation of an image is drawn by (seed, epoch, place of the image in the set),
    and by its place in the epoch if images may come several times.

    A broken image that is skipped makes its batch smaller by one. Worker processes stay from one epoch to the next; an
    epoch that begins before another has ended gets its own.
    """

    def __init__(
        self,
        files: ImageFiles,
        transform: Transform,
        batches: Batches,
        normalise: Normalise,
        config: DataConfig,
        warn: bool,
    ) -> None:
        self._files = files
        self._samples = FileDataset(files.paths, files.targets, transform, batches.seed)
        self._batches, self._normalise, self._config, self._warn = batches, normalise, config, warn
        self._broken: set[int] = set()
        self._workers = Workers(self._samples, collate, config.workers)
        self.batches = len(batches)

    @property
    def samples(self) -> int:
        """Number of samples, over all ranks."""
        return self._batches.samples

    @property
    def targets(self) -> Tensor:
        """The class of each sample of the whole set, in the set's order (int64)."""
        return torch.as_tensor(self._samples.targets, dtype=torch.int64)

    @property
    def sampling(self) -> str:
        """How epochs draw images: a name of `SAMPLINGS`."""
        return self._batches.sampling

    def subset(self, indices: Tensor, seed: int) -> "FileLoader":
        """The samples at `indices` (int64), in an order and with an augmentation that follow from `seed`."""
        transform, batches = self._samples.transform, self._batches.subset(indices, seed)
        return FileLoader(self._files, transform, batches, self._normalise, self._config, self._warn)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of an epoch from batch `start` on: normalised float32 (B, 3, H, W) and int64 targets (B,).

        Raises:
            ValueError: broken images that are refused, or nothing but broken images in a batch.
        """
        for images, targets, broken in self._workers.serve(partial(_keys, self._batches, epoch, start)):
            self._report(broken)
            if not len(targets):
                raise ValueError("no image of a batch can be read; raise batch_size or remove the broken images")
            yield self._normalise(images), targets

    def _report(self, broken: dict[int, str]) -> None:
        new = {index: reason for index, reason in broken.items() if index not in self._broken}
        self._broken.update(new)
        named = [Broken(self._samples.paths[index], reason) for index, reason in new.items()]
        report_broken(named, len(self._samples), self._config.on_broken, warn=self._warn)


def _keys(batches: Batches, epoch: int, start: int) -> Iterator[list[Key]]:
    """The keys of this rank's samples in each batch."""
    for batch, indices in batches.epoch(epoch, start):
        draws = torch.zeros(len(indices), dtype=torch.int64)
        if batches.sampling != "shuffle":  # an image may come twice, and is then augmented differently
            draws = torch.arange(1, len(indices) + 1) + batches.bounds[batch]
        own = batches.own
        yield [(epoch, index, draw) for index, draw in zip(indices[own].tolist(), draws[own].tolist(), strict=True)]


def file_loaders(
    train: ImageFiles, test: ImageFiles, info: DataInfo, config: DataConfig, shard: Shard
) -> tuple[FileLoader, FileLoader]:
    """Loaders of the image files of each split, at the (square) size of `info`."""
    normalise = Normalise(info.mean, info.std)
    loaders = []
    for training, files in ((True, train), (False, test)):
        batches = Batches(
            len(files.paths),
            config.batch_size,
            shard,
            training=training,
            sampling=config.sampling if training else "shuffle",
            targets=files.targets,
        )
        transform = _transform(config, info.size[0], training)
        loaders.append(FileLoader(files, transform, batches, normalise, config, shard.rank == 0))
    return loaders[0], loaders[1]


def evaluation_loader(files: ImageFiles, info: DataInfo, view: View, config: DataConfig, shard: Shard) -> FileLoader:
    """A loader of test images alone, at the (square) size and the crop of `info`, otherwise by a view."""
    batches = Batches(len(files.paths), config.batch_size, shard, training=False)
    transform = view.transform(info.size[0], info.crop_pct)
    return FileLoader(files, transform, batches, Normalise(info.mean, info.std), config, shard.rank == 0)


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
