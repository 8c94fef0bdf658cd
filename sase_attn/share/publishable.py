"""`publishable`: the bare network of a model; `model_args`: the arguments from which timm rebuilds it."""

import copy
import json
import re
from typing import Any

import torch
from timm.utils import unwrap_model
from torch import nn

from sase_attn.share.errors import HubError

# Training-time rates describe a run, not the weights; timm does not export them either.
_RUN_ARGS = r"drop_rate|drop_path_rate|drop_block_rate|.*_drop_rate"


def publishable(model: nn.Module) -> Any:
    """`model` without compile and parallel wrappers, with all tensors contiguous, as safetensors requires."""
    network = unwrap_model(model)
    if "architecture" not in getattr(network, "pretrained_cfg", {}) or not hasattr(network, "num_features"):
        raise HubError(
            f"cannot publish {type(network).__name__}: wanted a classifier from timm.create_model, got a module "
            "without its pretrained_cfg or num_features; make it with timm.create_model and without features_only"
        )
    if all(tensor.is_contiguous() for tensor in network.state_dict().values()):
        return network
    return copy.deepcopy(network).to(memory_format=torch.contiguous_format)


def model_args(model: Any) -> dict[str, Any]:
    """Arguments that rebuild `model`: those that it was made with, and its present classes, channels and pooling."""
    name = model.pretrained_cfg["architecture"]
    recorded = getattr(model, "_model_args", None)
    if recorded is None:  # without them, another genotype would load as the default one
        raise HubError(
            f"cannot publish {name}: wanted the arguments it was made with in model._model_args, got a model without; "
            "make it with timm.create_model of timm>=1.0.31, which records them"
        )
    args = {key: value for key, value in recorded.items() if not re.fullmatch(_RUN_ARGS, key)}
    args |= {key: getattr(model, key) for key in ("num_classes", "in_chans") if hasattr(model, key)}
    for owner in (getattr(model, "head", None), model):
        pool = getattr(owner, "global_pool", None)
        pool = getattr(pool, "pool_type", pool)
        if isinstance(pool, str):
            args["global_pool"] = pool
            break
    for key, value in args.items():
        try:
            json.dumps(value)
        except (TypeError, ValueError):
            raise HubError(
                f"cannot publish {name}: wanted model arguments that JSON can hold, got {key}={value!r}; "
                "use a registered model whose options are numbers and strings"
            ) from None
    return args
