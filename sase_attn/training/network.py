"""The network that a recipe trains: made by name, started from weights, frozen in part."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models import adapt_input_conv
from torch import nn

from sase_attn.errors import unknown_name
from sase_attn.training.data.sets import DATA_SETS
from sase_attn.training.recipes import Recipe
from sase_attn.weights import check_state_dict, read_checkpoint, warm_start


def create_network(
    recipe: Recipe, *, num_classes: int, in_chans: int, echo: Callable[[str], object] = print
) -> nn.Module:
    """The network of a recipe with its initial weights, a function of the recipe's seed; seeds torch's generator.

    Args:
        recipe: model, model_kwargs, init_from and seed count.
        num_classes, in_chans: of the data.
        echo: gets a line for each thing that was changed to make weights fit.

    Raises:
        UnknownNameError: no such model.
        ValueError: arguments that the model does not take, or weights that do not fit it.
        FileNotFoundError: `init_from` does not exist.
    """
    name = recipe.model.partition(".")[0]
    if not recipe.model.startswith(("hf-hub:", "hf_hub:", "local-dir:")) and not timm.is_model(name):
        raise unknown_name("model", recipe.model, timm.list_models())
    if taken := recipe.model_kwargs.keys() & {"num_classes", "in_chans", "pretrained"}:
        raise ValueError(f"model_kwargs: {', '.join(sorted(taken))} come from the data and init_from; leave them out")
    torch.manual_seed(recipe.seed)
    pretrained = recipe.init_from == "pretrained"
    try:
        model: nn.Module = timm.create_model(
            recipe.model, pretrained=pretrained, num_classes=num_classes, in_chans=in_chans, **recipe.model_kwargs
        )
    except (TypeError, RuntimeError) as error:
        raise ValueError(f"cannot make {recipe.model}: {' '.join(str(error).split())}") from None
    if recipe.init_from is not None and not pretrained:
        start_from(model, recipe.init_from, echo=echo)
    return model


def normalised_by_model(recipe: Recipe) -> bool:
    """Whether the model's `pretrained_cfg` says how images are normalised, rather than the data set.

    So it is with timm's weights; and with any other weights on an image folder, which has no statistics of its own.
    """
    folder = recipe.data.partition(":")[0] not in DATA_SETS
    return recipe.init_from == "pretrained" or (folder and recipe.init_from is not None)


def start_from(model: nn.Module, source: str | Path, *, echo: Callable[[str], object] = print) -> None:
    """Load weights of this network, or of the same network without attention, whose outputs are then preserved.

    A classifier of another size is left as it was initialised, and a first convolution for other channels is adapted
    as timm does it; `echo` gets a line for each.

    Args:
        model: a network as it was made.
        source: a `.safetensors` or torch file, or a folder that holds `model.safetensors`.

    Raises:
        FileNotFoundError: no such file. ValueError: it holds no weights, or none that fit.
    """
    path = Path(source)
    if path.is_dir():
        path = next((p for p in (path / "model.safetensors", path / "model" / "model.safetensors") if p.exists()), path)
    weights = warm_start(read_checkpoint(path), model)
    wanted = model.state_dict()
    cfg: dict[str, Any] = getattr(model, "pretrained_cfg", None) or {}
    for prefix in _names(cfg.get("first_conv")):
        key = f"{prefix}.weight"
        if key in weights and key in wanted and weights[key].shape[1] != wanted[key].shape[1]:
            echo(f"{key}: adapted from {weights[key].shape[1]} to {wanted[key].shape[1]} channels")
            weights[key] = adapt_input_conv(wanted[key].shape[1], weights[key])
    for prefix in _names(cfg.get("classifier")):
        keys = [key for key in wanted if key.startswith(f"{prefix}.")]
        if any(key not in weights or weights[key].shape != wanted[key].shape for key in keys):
            echo(f"{prefix}: not taken from {path}, which has another number of classes; trained from scratch")
            weights |= {key: wanted[key] for key in keys}
    check_state_dict(weights, model, source=str(path))
    model.load_state_dict(weights)


def _names(value: str | Sequence[str] | None) -> list[str]:
    return [value] if isinstance(value, str) else list(value or ())
