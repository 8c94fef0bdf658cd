"""Normalisation of images by the statistics of a data set, or by those that a network's weights were trained with."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from sase_attn.training.data.loader import DataInfo, Loader


class Normalise:
    """Maps values in [0, 255] to (value / 255 - mean) / std, channel by channel, in float32."""

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        self._scale = 1 / (255 * torch.tensor(std).view(-1, 1, 1))
        self._shift = torch.tensor(mean).view(-1, 1, 1) / torch.tensor(std).view(-1, 1, 1)

    def __call__(self, images: Tensor) -> Tensor:
        return images.float().mul(self._scale).sub_(self._shift).contiguous()


@dataclass
class RenormalisedLoader:
    """A loader whose images are normalised with other means and deviations, channel by channel."""

    loader: Loader
    factor: Tensor
    shift: Tensor
    batches: int

    @property
    def sampling(self) -> str | None:
        """How epochs draw images; None if the loader does not say."""
        return getattr(self.loader, "sampling", None)

    @property
    def targets(self) -> Tensor | None:
        """The class of each sample; None if the loader does not say."""
        return getattr(self.loader, "targets", None)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of an epoch from `start` on."""
        for images, targets in self.loader.epoch(epoch, start=start):
            yield images * self.factor + self.shift, targets


def normalise_as_trained(
    model: nn.Module, loaders: tuple[Loader, Loader], info: DataInfo
) -> tuple[Loader, Loader, DataInfo]:
    """The loaders with the normalisation of the model's `pretrained_cfg`, and the data's description with it.

    Nothing changes if they already agree, or if the data have other channels than the weights were made for.

    Raises:
        ValueError: the model's mean or deviation are not finite numbers, or a deviation is 0.
    """
    cfg = getattr(model, "pretrained_cfg", None) or {}
    mean, std = (_numbers(name, cfg.get(name) or of_data) for name, of_data in (("mean", info.mean), ("std", info.std)))
    if not all(std):
        raise ValueError(f"the model's config: wanted std of numbers above 0, got {list(std)}")
    if (mean, std) == (tuple(info.mean), tuple(info.std)) or not len(mean) == len(std) == len(info.mean):
        return *loaders, info
    old_mean, old_std, new_mean, new_std = (
        torch.tensor(values).view(-1, 1, 1) for values in (info.mean, info.std, mean, std)
    )
    factor, shift = old_std / new_std, (old_mean - new_mean) / new_std
    first, second = (RenormalisedLoader(loader, factor, shift, loader.batches) for loader in loaders)
    return first, second, replace(info, mean=mean, std=std)


def _numbers(name: str, values: object) -> tuple[float, ...]:
    if not isinstance(values, list | tuple) or not all(isinstance(v, int | float) and abs(v) < 1e30 for v in values):
        raise ValueError(f"the model's config: wanted {name} as a list of numbers, got {values!r}")
    return tuple(values)
