"""`create_network`: the network that a recipe trains, with its initial weights."""

from collections.abc import Callable, Sequence

import timm
import torch
from torch import nn

from sase_attn import share
from sase_attn.errors import in_words
from sase_attn.models.names import check_name
from sase_attn.training.data.sets import DATA_SETS
from sase_attn.training.initial_weights import name_head, start_alike, start_from
from sase_attn.training.recipes import Recipe


def create_network(
    recipe: Recipe,
    *,
    num_classes: int,
    in_chans: int,
    classes: Sequence[str] | None = None,
    echo: Callable[[str], object] = print,
) -> nn.Module:
    """The network of a recipe. Its initial weights depend on the recipe's seed, with which torch's generator is seeded.

    Args:
        recipe: the recipe, of which model, model_kwargs, init_from, start_as and seed are used.
        num_classes, in_chans: the number of classes and of image channels of the data.
        classes: names of the data's classes, to compare with those of weights: see `start_from`.
        echo: called with a line for each thing that was changed to make weights fit.

    Raises:
        UnknownNameError: no such model, or no such tag of it.
        ValueError: arguments that the model does not accept, or weights that do not fit it.
        FileNotFoundError: `init_from` does not exist. HubError: timm's weights cannot be fetched.
    """
    if not recipe.model.startswith(("hf-hub:", "hf_hub:", "local-dir:")):
        check_name(recipe.model)
    if taken := recipe.model_kwargs.keys() & {"num_classes", "in_chans", "pretrained"}:
        raise ValueError(f"model_kwargs: {', '.join(sorted(taken))} come from the data and init_from; leave them out")
    torch.manual_seed(recipe.seed)
    pretrained = recipe.init_from == "pretrained"
    try:
        with share.one_report():
            model: nn.Module = timm.create_model(
                recipe.model, pretrained=pretrained, num_classes=num_classes, in_chans=in_chans, **recipe.model_kwargs
            )
    except Exception as error:  # timm, the Hub, and models with wrong arguments raise errors of many types
        if pretrained and (explained := share.explanation(error, f"load {recipe.model}")):
            raise share.HubError(explained) from None
        if pretrained and "No pretrained weights exist" in str(error):
            wanted = "it has no pretrained weights; name a run's folder or a weights file"
            raise ValueError(f"cannot make {recipe.model}: {wanted}") from None
        if isinstance(error, ValueError | OSError | MemoryError):
            raise
        raise ValueError(f"cannot make {recipe.model}: {in_words(error)}") from None
    if recipe.start_as:
        name, arguments = recipe.start_as.get("model", recipe.model), dict(recipe.start_as)
        arguments.pop("model", None)
        source = recipe.init_from if pretrained else None  # drawn weights would replace the loaded ones
        like = recipe.override(model=name, model_kwargs=arguments, start_as={}, init_from=source)
        start_alike(model, create_network(like, num_classes=num_classes, in_chans=in_chans, echo=echo))
    if recipe.init_from is not None and not pretrained:
        start_from(model, recipe.init_from, classes=classes, echo=echo)
    elif pretrained and classes is not None:
        name_head(model, classes, echo=echo)
    return model


def normalised_by_model(recipe: Recipe) -> bool:
    """Whether the model's `pretrained_cfg` says how images are normalised, rather than the data set.

    It does with timm's weights; and with any other weights on an image folder, which has no statistics of its own.
    """
    folder = recipe.data.partition(":")[0] not in DATA_SETS
    return recipe.init_from == "pretrained" or (folder and recipe.init_from is not None)
