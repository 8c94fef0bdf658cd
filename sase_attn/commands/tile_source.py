"""`open_network`: the network for `sase-attn tile`, from a name of timm, a saved model's folder, or a weights file."""

import argparse
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

from sase_attn import share
from sase_attn.commands.networks import arguments_of, refused_arguments
from sase_attn.models.names import check_name
from sase_attn.training.data_config import take_data_config
from sase_attn.training.loading import recipe_of
from sase_attn.weights import read_checkpoint
from sase_attn.weights.files import is_named_like_weights
from sase_attn.weights.fitting import fitted
from sase_attn.weights.gains import take_unasked_gains
from sase_attn.weights.genotypes import read_record
from sase_attn.weights.state_dicts import check_state_dict

_SCHEMES = ("local-dir:", "hf-hub:", "hf_hub:")


def open_network(args: argparse.Namespace) -> nn.Module:
    """The network that the arguments name; on the meta device if only its report is wanted."""
    path, needed = Path(args.source), args.output is not None
    if path.is_file():
        return _from_file(args, path)
    if args.model is not None and is_named_like_weights(args.source) and not path.exists():
        raise FileNotFoundError(f"no such file or folder: {args.source}")
    if args.model is not None:
        raise ValueError(f"--model says what a weights file is for, but {args.source} is no such file")
    place: dict[str, Any] = {} if needed else {"device": torch.device("meta")}
    folder = next((f for f in (path, path / "model") if (f / "config.json").is_file()), None)
    if path.is_dir() and folder is None:
        raise FileNotFoundError(f"{path} holds no model that timm can load: wanted config.json, or model/config.json")
    name = args.source if folder is None else f"local-dir:{folder}"
    if not name.startswith(_SCHEMES):
        if is_named_like_weights(name):
            raise FileNotFoundError(f"no such file or folder: {name}")
        check_name(name)
    pretrained = needed and not (args.no_pretrained and folder is None)
    try:
        with share.one_report():
            model: nn.Module = timm.create_model(name, pretrained=pretrained, **dict(args.model_kwargs), **place)
    except (TypeError, AssertionError, KeyError) as error:
        raise refused_arguments(name, error) from None
    except Exception as error:  # the Hub, HTTP libraries and damaged files raise errors of many types
        hint = "; --no-pretrained takes random weights" if pretrained and folder is None else ""
        raise share.HubError(share.pull_error(error, name) + hint) from error
    return model


def _from_file(args: argparse.Namespace, path: Path) -> nn.Module:
    """The network of a weights file; its classes and input channels are those of the weights."""
    recipe = recipe_of(str(path)) if args.model is None else None
    name, kwargs = (args.model, {}) if recipe is None else (recipe.model, recipe.model_kwargs)
    tensors = read_checkpoint(path)
    if name is None:
        raise ValueError(f"{path} does not say what model it is for: pass --model NAME")
    check_name(name)
    with arguments_of(name):
        plain = timm.create_model(name, **kwargs | dict(args.model_kwargs), device=torch.device("meta"))
    weights = fitted(tensors, plain, source=str(path))
    cfg = timm.models.get_pretrained_cfg(name)
    found = {
        argument: weights[key].shape[axis]
        for argument, layer, axis in (("num_classes", "classifier", 0), ("in_chans", "first_conv", 1))
        if (key := f"{getattr(cfg, layer, None)}.weight") in weights and weights[key].dim() > axis
    }
    with arguments_of(name):
        model: nn.Module = timm.create_model(name, **found | kwargs | dict(args.model_kwargs))
    record = read_record(path)
    take_unasked_gains(record, model, source=str(path))
    check_state_dict(weights, model, source=str(path), genotype=record)
    model.load_state_dict(weights)
    take_data_config(model, path)
    return model
