"""The entries of timm's `pretrained_cfg` that describe the data, which are saved with weights and set on models."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from sase_attn.files import parse_json
from sase_attn.training.data.loader import DataInfo
from sase_attn.weights import read_metadata

KEY = "data_config"
NORMALISATION = ("mean", "std")
_NAMES = (
    "input_size", "mean", "std", "crop_pct", "interpolation", "test_input_size", "test_crop_pct", "num_classes",
    "label_names",
)  # fmt: skip


def data_config(info: DataInfo) -> dict[str, Any]:
    """Size, normalisation, view and classes of data, as entries of a `pretrained_cfg`."""
    return {
        "input_size": (info.channels, *info.size),
        "mean": info.mean,
        "std": info.std,
        "crop_pct": info.crop_pct,
        "interpolation": "bilinear",
        "test_input_size": None,  # drops that of the weights that training started from
        "test_crop_pct": None,
        "num_classes": len(info.classes),
        "label_names": list(info.classes),
    }


def take_data_config(model: nn.Module, weights: Path, names: Sequence[str] = _NAMES) -> bool:
    """Set the entries that were saved with weights on a model of timm; returns whether there were any.

    They are in the header of a safetensors file that a run has written, or in the `config.json` beside it.
    """
    found = _recorded(weights)
    cfg = getattr(model, "pretrained_cfg", None)
    if not isinstance(cfg, dict) or not isinstance(found, dict):
        return False
    entries = {name: found[name] for name in names if name in found}
    model.pretrained_cfg = cfg | entries  # type: ignore[assignment]
    return bool(entries)


def _recorded(weights: Path) -> object:
    if weights.suffix != ".safetensors":
        return None
    try:
        text = read_metadata(weights).get(KEY)
        if text is not None:
            return parse_json(text)
        config = parse_json(weights.with_name("config.json").read_bytes())
    except (ValueError, OSError):  # another program's file, or an unreadable one, which loading its tensors reports
        return None
    found = config.get("pretrained_cfg") if isinstance(config, dict) else None
    if isinstance(found, dict) and "label_names" in config:  # timm stores them outside of the `pretrained_cfg`
        found["label_names"] = config["label_names"]
    return found


def as_metadata(info: DataInfo) -> dict[str, str]:
    """The entries as metadata of a safetensors file."""
    return {KEY: json.dumps(data_config(info))}
