"""The column of each network in the picture of photos × networks: its maps and probabilities; names of classes."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sase_attn.plot.grad_cam import grad_cam


class Column(NamedTuple):
    """One network's saliency maps (B, H, W), and its class probabilities (B, classes)."""

    name: str
    maps: Tensor
    scores: Tensor


def saliency_columns(
    models: Mapping[str, nn.Module],
    images: Tensor,
    *,
    layer: str | Mapping[str, str] | None,
    targets: Sequence[int] | Tensor | None,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
) -> list[Column]:
    """Maps and probabilities of each network; arguments as those of `draw_saliency`."""
    columns = []
    for name, model in models.items():
        place = layer.get(name) if isinstance(layer, Mapping) else layer
        maps, logits = grad_cam(model, _normalised(name, model, images, mean, std), layer=place, target=targets)
        columns.append(Column(name, maps[:, 0].cpu(), logits.softmax(1).cpu()))
    return columns


def _normalised(
    name: str, model: nn.Module, images: Tensor, mean: Sequence[float] | None, std: Sequence[float] | None
) -> Tensor:
    """The photos, normalised as a network expects them."""
    config: dict[str, Any] = getattr(model, "pretrained_cfg", None) or {}
    values = [given if given is not None else config.get(key) for key, given in (("mean", mean), ("std", std))]
    for key, value in zip(("mean", "std"), values, strict=True):
        if value is None:
            raise ValueError(f"{name} does not say how it wants photos normalised; pass mean and std")
        if len(value) != images.shape[1]:
            raise ValueError(f"{name}: wanted a {key} of {images.shape[1]} channels, got {tuple(value)}")
    centre, scale = (torch.tensor(value, device=images.device).view(-1, 1, 1) for value in values)
    return (images.detach() - centre) / scale


def class_names(labels: Sequence[str] | None, models: Mapping[str, nn.Module], columns: list[Column]) -> list[str]:
    """The names of the classes: `labels`, or those that the networks carry, or numbers."""
    count = columns[0].scores.shape[1]
    for column in columns:
        if column.scores.shape[1] != count:
            raise ValueError(
                f"the networks differ in their classes: {columns[0].name} has {count}, "
                f"{column.name} {column.scores.shape[1]}"
            )
    known = {name: (getattr(model, "pretrained_cfg", None) or {}).get("label_names") for name, model in models.items()}
    own = {name: list(names) for name, names in known.items() if names and len(names) == count}
    for name, names in own.items():
        if names != next(iter(own.values())):
            raise ValueError(f"the networks differ in their classes: {next(iter(own))} and {name} name others")
    if labels is None:
        labels = next(iter(own.values()), [str(index) for index in range(count)])
    if len(labels) != count:
        raise ValueError(f"wanted labels of {count} classes, got {len(labels)}")
    return [str(label) for label in labels]
