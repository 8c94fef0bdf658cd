"""Class names of ImageNet, which timm's weights lack: synsets, such as n02124075, and their descriptions."""

import re
from collections.abc import Sequence

from timm.data import ImageNetInfo, infer_imagenet_subset
from torch import nn


def imagenet_synsets(model: nn.Module, classes: Sequence[str] | None) -> tuple[str, ...] | None:
    """The synsets of a network with as many outputs as a version of ImageNet, if these include all `classes`."""
    subset = infer_imagenet_subset(model)
    if subset is None:
        return None
    synsets = tuple(ImageNetInfo(subset).label_names())
    return synsets if classes is None or set(classes) <= set(synsets) else None


def described(names: Sequence[str]) -> tuple[str, ...]:
    """The first word of the description of each synset; the names as they are if one of them is not a synset."""
    if not all(re.fullmatch(r"n\d{8}", name) for name in names):
        return tuple(names)
    info = ImageNetInfo()
    try:
        return tuple(info.label_name_to_description(name).partition(",")[0] for name in names)
    except KeyError:
        return tuple(names)
