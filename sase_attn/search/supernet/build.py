"""What a search starts with: a super-network out of a plain network, and the two halves of the training images."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from sase_attn.block import SASEBlock
from sase_attn.insert import attach
from sase_attn.search.bilevel import Batch
from sase_attn.search.config import SearchConfig
from sase_attn.search.space import SearchSpace
from sase_attn.search.supernet.architecture import Architecture
from sase_attn.search.supernet.block import blocks_of
from sase_attn.training.data.open import DataInfo, Loader, PartLoader, open_data
from sase_attn.training.data.order import generator, hashed
from sase_attn.training.distributed import Ranks
from sase_attn.training.network import create_network
from sase_attn.training.recipes import Recipe

# What keys of random numbers stand for, beside the seed.
SPLIT, ALPHA, WEIGHTS_ORDER, ALPHA_ORDER = range(4)


@dataclass(frozen=True)
class SearchData:
    """Batches that train the weights, batches that train alpha (neither image in both), and test images if any."""

    weights: Loader
    alpha: Loader
    test: Loader | None
    info: DataInfo


def create_supernet(
    config: SearchConfig, *, num_classes: int, in_chans: int, echo: Callable[[str], object] = print
) -> nn.Module:
    """The network of a configuration with super-network blocks after the layers that it names.

    Layers before a block whose weight starts at zero, as timm's ResNets have them, start at one instead: over a map of
    zeros all operations look alike to alpha.

    Raises:
        UnknownNameError: no such model, or no layer of that name.
        ValueError: the network has blocks already, or see `create_network` and `attach`.
    """
    recipe = Recipe(model=config.model, model_kwargs=config.model_kwargs, seed=config.seed)
    model = create_network(recipe, num_classes=num_classes, in_chans=in_chans, echo=echo)
    if any(isinstance(module, SASEBlock) for module in model.modules()):
        raise ValueError(
            f"{config.model} has SASE blocks already: wanted a plain network, such as "
            f"{'resnet20_cifar' if config.model == 'sase_resnet20' else config.model.removeprefix('sase_')}"
        )
    for place in attach(model, after=config.after, attn=config.search_space().block):
        weight = getattr(model.get_submodule(f"{place.name}.host"), "weight", None)
        if weight is not None and not weight.any():
            nn.init.ones_(weight)
    return model


def architecture_of(model: nn.Module, space: SearchSpace) -> Architecture:
    """The one architecture that all blocks of a network share.

    Raises:
        ValueError: the network has no blocks, blocks of several architectures, or of another space.
    """
    found = {id(block.shared_architecture): block.shared_architecture for _, block in blocks_of(model)}
    if len(found) != 1:
        raise ValueError(
            "wanted super-network blocks that share one alpha, as attach(model, after=…, attn=space.block) makes them; "
            f"found {'none' if not found else f'{len(found)} alphas'}"
        )
    (architecture,) = found.values()
    if architecture.columns != dict(space.ops):
        raise ValueError("the network's blocks were made for another space than the one given")
    if not any(parameter is architecture.alpha for parameter in model.parameters()):
        raise ValueError("the block that owns alpha is not part of the network")
    return architecture


def prepare(model: nn.Module, architecture: Architecture, config: SearchConfig) -> None:
    """Draw alpha by the seed, choose the implementation of the blocks, and the memory format."""
    architecture.draw(generator(config.seed, ALPHA), config.alpha_std)
    for _, block in blocks_of(model):
        block.reference = config.reference
        if config.compile:
            block.compile()
    if config.channels_last:
        model.to(memory_format=torch.channels_last)


def open_halves(config: SearchConfig, ranks: Ranks) -> SearchData:
    """The data of a configuration, its training images drawn and divided by the seed.

    Raises:
        ValueError: too few images, or see `open_data`.
    """
    train, test, info = open_data(config.data_config(), seed=config.seed, rank=ranks.rank, world_size=ranks.world_size)
    return SearchData(*divide(train, config, ranks), test, info)


def divide(train: PartLoader, config: SearchConfig, ranks: Ranks) -> tuple[PartLoader, PartLoader]:
    """Two loaders of different images; up to a rank's number of them is left out, so that all ranks get as many."""
    total = train.samples
    if config.images is not None and config.images > total:
        raise ValueError(f"images: wanted at most the {total} training images of {config.data}, got {config.images}")
    order = torch.randperm(total, generator=generator(config.seed, SPLIT))[: config.images]
    first = round(len(order) * config.train_portion)
    parts = order[:first], order[first:]
    loaders = []
    for members, key, what in zip(parts, (WEIGHTS_ORDER, ALPHA_ORDER), ("weights", "alpha"), strict=True):
        members = members[: len(members) // ranks.world_size * ranks.world_size]
        if len(members) < max(2, ranks.world_size):
            raise ValueError(f"wanted at least two images to train the {what} on, got {len(members)} of {len(order)}")
        loaders.append(train.part(members, hashed(config.seed, key)))
    return loaders[0], loaders[1]


def sample_batches(loader: Loader, images: int) -> list[Batch]:
    """The first batches of a loader's first epoch, of so many images on this rank, or a few more."""
    batches, count = [], 0
    for batch in loader.epoch(0):
        batches.append(batch)
        count += len(batch[1])
        if count >= images:
            break
    return batches
