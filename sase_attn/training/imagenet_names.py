"""Classes of ImageNet, which weights of timm do not name: synsets, such as n02124075, and what they are called."""

import re
from collections.abc import Sequence

from timm.data import ImageNetInfo, infer_imagenet_subset
from torch import nn


def imagenet_synsets(model: nn.Module, classes: Sequence[str] | None) -> tuple[str, ...] | None:
    """The synsets of a network that has as many outputs as a set of ImageNet, if all `classes` are of them."""
    subset = infer_imagenet_subset(model)
    if subset is None:
        return None
    synsets = tuple(ImageNetInfo(subset).label_names())
    return synsets if classes is None or set(classes) <= set(synsets) else None


def described(names: Sequence[str]) -> tuple[str, ...]:
    """What synsets are called, by their first word; names as they are where one is no synset."""
    if not all(re.fullmatch(r"n\d{8}", name) for name in names):
        return tuple(names)
    info = ImageNetInfo()
    try:
        return tuple(info.label_name_to_description(name).partition(",")[0] for name in names)
    except KeyError:
        return tuple(names)
