"""The trained network as files: `model/`, which timm loads, or its weights alone."""

import copy
import json
import shutil
from dataclasses import asdict
from pathlib import Path

from torch import nn

from sase_attn import share
from sase_attn.training.data import DataInfo
from sase_attn.training.data_config import as_metadata, data_config
from sase_attn.training.evaluate import Metrics
from sase_attn.training.recipes import Recipe
from sase_attn.weights import write_safetensors


def save_weights(model: nn.Module, path: Path, recipe: Recipe, info: DataInfo) -> None:
    """Write the weights as safetensors; the metadata have recipe, genotype, and which data they are and how seen."""
    weights = {key: value.detach().cpu() for key, value in model.state_dict().items()}
    metadata = {"recipe": recipe.to_json(), "data": json.dumps(asdict(info.identity)), **as_metadata(info)}
    write_safetensors(weights, path, metadata=metadata, model=model)


def save_model(model: nn.Module, folder: Path, recipe: Recipe, info: DataInfo, metrics: Metrics) -> str | None:
    """Write `model/`, whose config knows the data's size, normalisation and classes.

    Returns:
        None, or why timm cannot rebuild this network; `model.safetensors` in the run's folder then holds the weights.
    """
    target = folder / "model"
    shutil.rmtree(target, ignore_errors=True)  # of a run that was killed here
    model = copy.deepcopy(model).cpu().eval()
    try:
        if not isinstance(getattr(model, "pretrained_cfg", None), dict):
            raise share.HubError(f"{type(model).__name__} was not made by timm.create_model")
        model.pretrained_cfg = {  # type: ignore[assignment]
            **model.pretrained_cfg,  # type: ignore[dict-item]
            **data_config(info),
        }
        share.save(
            model, target, metrics={f"{info.name} top-1 (%)": metrics.top1, f"{info.name} top-5 (%)": metrics.top5}
        )
    except share.HubError as error:
        save_weights(model, folder / "model.safetensors", recipe, info)
        return str(error)
    return None
