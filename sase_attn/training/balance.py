"""`balance`: class weights for classes of different size, and a check of the recipe's sampling against the data."""

from collections.abc import Callable

from torch import Tensor

from sase_attn.training.class_weights import class_weights
from sase_attn.training.data import DataInfo, Loader
from sase_attn.training.recipes import Recipe


def balance(recipe: Recipe, train: Loader, info: DataInfo, echo: Callable[[str], object]) -> Tensor | None:
    """The weight of each class in the loss, or None; `echo` is called with a line on their range.

    Raises:
        ValueError: the loader samples images otherwise than the recipe says, or does not know its targets; or a class
            has no training image.
    """
    if recipe.sampling != "shuffle" and (drawn := getattr(train, "sampling", None)) != recipe.sampling:
        raise ValueError(f"sampling: wanted a loader that draws {recipe.sampling!r}, got one that draws {drawn!r}")
    if recipe.class_weights == "none":
        return None
    targets = getattr(train, "targets", None)
    if targets is None:
        raise ValueError(f"class_weights: wanted a loader with the targets of its images, got {type(train).__name__}")
    weights = class_weights(targets, recipe.class_weights, len(info.classes))
    least, largest = int(weights.argmin()), int(weights.argmax())
    echo(f"class weights: {weights[least]:.3g} ({info.classes[least]}) to {weights[largest]:.3g} "
         f"({info.classes[largest]})")  # fmt: skip
    return weights
