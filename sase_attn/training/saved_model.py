"""The trained network as files: `model/`, which timm loads, or its weights alone."""

import copy
import json
import shutil
from dataclasses import asdict
from pathlib import Path

from torch import nn

from sase_attn import share
from sase_attn.training.data import DataIdentity, DataInfo
from sase_attn.training.evaluate import Metrics
from sase_attn.training.recipes import Recipe
from sase_attn.weights import write_safetensors


def save_weights(model: nn.Module, path: Path, recipe: Recipe, data: DataIdentity) -> None:
    """Write the weights as safetensors, with recipe, genotype and the identity of the data in the file's metadata."""
    weights = {key: value.detach().cpu() for key, value in model.state_dict().items()}
    metadata = {"recipe": recipe.to_json(), "data": json.dumps(asdict(data))}
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
            "input_size": (info.channels, *info.size),
            "mean": info.mean,
            "std": info.std,
            "crop_pct": info.crop_pct,
            "interpolation": "bilinear",
            "test_input_size": None,  # of the weights that it started from
            "test_crop_pct": None,
            "num_classes": len(info.classes),
            "label_names": list(info.classes),
        }
        share.save(
            model, target, metrics={f"{info.name} top-1 (%)": metrics.top1, f"{info.name} top-5 (%)": metrics.top5}
        )
    except share.HubError as error:
        save_weights(model, folder / "model.safetensors", recipe, info.identity)
        return str(error)
    return None
