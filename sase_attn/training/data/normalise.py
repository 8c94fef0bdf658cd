"""Give a network its images normalised as its weights were trained, whatever the data set's own mean and deviation."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from sase_attn.training.data.config import DataInfo, Loader
from sase_attn.training.data.sets import DATA_SETS
from sase_attn.training.recipes import Recipe


def is_by_model(recipe: Recipe) -> bool:
    """Whether the model's `pretrained_cfg` says how images are normalised, rather than the data set.

    So it is with timm's weights; and with any other weights on an image folder, which has no statistics of its own.
    """
    folder = recipe.data.partition(":")[0] not in DATA_SETS
    return recipe.init_from == "pretrained" or (folder and recipe.init_from is not None)


@dataclass
class Renormalised:
    """A loader whose images are normalised with other means and deviations, channel by channel."""

    loader: Loader
    factor: Tensor
    shift: Tensor
    batches: int

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of an epoch from `start` on."""
        for images, targets in self.loader.epoch(epoch, start=start):
            yield images * self.factor + self.shift, targets


def as_trained(model: nn.Module, loaders: tuple[Loader, Loader], info: DataInfo) -> tuple[Loader, Loader, DataInfo]:
    """The loaders with the normalisation of the model's `pretrained_cfg`, and the data's description with it.

    Nothing changes where they agree already, or where the data's channels are not those that the weights were made for.
    """
    cfg = getattr(model, "pretrained_cfg", None) or {}
    mean, std = tuple(cfg.get("mean") or info.mean), tuple(cfg.get("std") or info.std)
    if (mean, std) == (tuple(info.mean), tuple(info.std)) or not len(mean) == len(std) == len(info.mean):
        return *loaders, info
    old_mean, old_std, new_mean, new_std = (
        torch.tensor(values).view(-1, 1, 1) for values in (info.mean, info.std, mean, std)
    )
    factor, shift = old_std / new_std, (old_mean - new_mean) / new_std
    first, second = (Renormalised(loader, factor, shift, loader.batches) for loader in loaders)
    return first, second, replace(info, mean=mean, std=std)
