"""`save_model`: write a trained network as `model/`, which timm loads; `save_weights`: only its weights."""

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
    """Write the weights as safetensors, with recipe, genotype, identity and view of the data as metadata."""
    weights = {key: value.detach().cpu() for key, value in model.state_dict().items()}
    metadata = {"recipe": recipe.to_json(), "data": json.dumps(asdict(info.identity)), **as_metadata(info)}
    write_safetensors(weights, path, metadata=metadata, model=model)


def save_model(model: nn.Module, folder: Path, recipe: Recipe, info: DataInfo, metrics: Metrics) -> str | None:
    """Write `model/`, whose config has the size, the normalisation and the classes of the data.

    Returns:
        None, or why timm cannot rebuild this network; its weights are then in `model.safetensors` in the run's folder.
    """
    target = folder / "model"
    shutil.rmtree(target, ignore_errors=True)  # left by a run that was killed while saving
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
