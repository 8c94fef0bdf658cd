"""The training images of a search in two parts: one trains the weights, the other trains alpha; no image is in both."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sase_attn.search.config import ALPHA_ORDER, SPLIT, WEIGHT_ORDER, SearchConfig
from sase_attn.search.shared_weights.bilevel import Batch
from sase_attn.training.data import DataConfig, DataInfo, Loader, SubsetLoader, open_data
from sase_attn.training.data.order import hash_seed, seeded_generator
from sase_attn.training.distributed import Ranks


@dataclass(frozen=True)
class SearchData:
    """Batches that train the weights, batches of other images that train alpha, and test images if there are any."""

    weights: Loader
    alpha: Loader
    test: Loader | None
    info: DataInfo


def open_halves(config: SearchConfig, ranks: Ranks) -> SearchData:
    """The data of a configuration, its training images drawn and divided by the seed.

    Raises:
        ValueError: see `divide` and `open_data`.
    """
    opened = open_data(DataConfig.of(config), seed=config.seed, rank=ranks.rank, world_size=ranks.world_size)
    train, test, info = opened
    return SearchData(*divide(train, config, ranks), test, info)


def divide(train: SubsetLoader, config: SearchConfig, ranks: Ranks) -> tuple[SubsetLoader, SubsetLoader]:
    """Two loaders of different images. A few images may be left out, so that all ranks get equally many.

    Raises:
        ValueError: too few images, or `split` is "first" and the images go by class.
    """
    total = train.samples
    if config.images is not None and config.images > total:
        raise ValueError(f"images: wanted at most the {total} training images of {config.data}, got {config.images}")
    drawn = torch.randperm(total, generator=seeded_generator(config.seed, SPLIT))
    order = (drawn if config.split == "drawn" else torch.arange(total))[: config.images]
    first = round(len(order) * config.train_portion)
    parts = order[:first], order[first:]
    if config.split == "first":
        _check_mixed(train.targets, config)
    loaders = []
    for members, key, what in zip(parts, (WEIGHT_ORDER, ALPHA_ORDER), ("weights", "alpha"), strict=True):
        members = members[: len(members) // ranks.world_size * ranks.world_size]
        if len(members) < max(2, ranks.world_size):
            raise ValueError(f"wanted at least two images to train the {what} on, got {len(members)} of {len(order)}")
        loaders.append(train.subset(members, hash_seed(config.seed, key)))
    return loaders[0], loaders[1]


def _check_mixed(targets: Tensor, config: SearchConfig) -> None:
    """Raise ValueError if images are sorted by class, as in a folder: each part would lack classes."""
    runs = 1 + int((targets[1:] != targets[:-1]).sum())
    if 1 < len(targets.unique()) == runs:
        raise ValueError(
            f'split: wanted images in an order that mixes the classes for "first", got {config.data}, whose images go '
            'by class; take "drawn"'
        )


def sample_batches(loader: Loader, images: int) -> list[Batch]:
    """The first batches of a loader's first epoch, up to `images` images on this rank, or a few more."""
    batches, count = [], 0
    for batch in loader.epoch(0):
        batches.append(batch)
        count += len(batch[1])
        if count >= images:
            break
    return batches
