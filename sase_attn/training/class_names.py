"""The class names of a trained network, and which of its outputs belong to the classes of other data."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sase_attn.files import read_json
from sase_attn.records import record_from
from sase_attn.training.checkpoint import NAME as CHECKPOINT
from sase_attn.training.checkpoint import is_run_checkpoint, load_run, saved_identity
from sase_attn.training.data.identity import DataIdentity, class_differences
from sase_attn.weights import read_metadata

Names = tuple[str, ...]


def saved_class_names(path: Path) -> Names | None:
    """The classes of the weights in a file, or in the folder of a run or a model; None if it has no names."""
    if path.is_dir():
        inner = (path / "config.json", path / "model" / "config.json", path / CHECKPOINT, path / "model.safetensors")
        return next((saved_class_names(file) for file in inner if file.is_file()), None)
    try:
        if path.name == CHECKPOINT and is_run_checkpoint(path):
            return saved_identity(load_run(path.parent)).classes
        if path.name == "config.json":
            return read_json(path, _label_names)
        if path.suffix == ".safetensors":
            text = read_metadata(path).get("data")
            beside = path.with_name("config.json")
            if text is None:
                return saved_class_names(beside) if beside.is_file() else None
            return record_from(DataIdentity, json.loads(text)).classes
    except (ValueError, OSError):  # another program's file, or an unreadable one, which loading its weights reports
        pass
    return None


def class_names_of(model: nn.Module) -> Names | None:
    """The classes that a network of timm names in its `pretrained_cfg`, if they are those of its outputs."""
    names = _label_names({"pretrained_cfg": getattr(model, "pretrained_cfg", None)})
    return names if names and len(names) == getattr(model, "num_classes", None) else None


def _label_names(config: Any) -> Names | None:
    """The names in timm's `config.json`, which holds them either inside the `pretrained_cfg` or next to it."""
    places = [config, config.get("pretrained_cfg")] if isinstance(config, dict) else []
    found = (place.get("label_names") for place in places if isinstance(place, dict))
    return next((tuple(map(str, names)) for names in found if isinstance(names, list | tuple) and names), None)


def places_of(names: Sequence[str], known: Sequence[str], source: str) -> Tensor:
    """The index of each class of the data among those of a network, int64 (len(names),).

    Raises:
        ValueError: the network does not know one of them.
    """
    of = {name: place for place, name in enumerate(known)}
    if tuple(names) == tuple(known):
        return torch.arange(len(names))
    if not of.keys() >= set(names):
        differences = class_differences(names, known, "the data", source)
        raise ValueError(f"{differences}; fine-tune it first, or name other data")
    return torch.tensor([of[name] for name in names])


def order_of(names: Sequence[str], known: Sequence[str]) -> Tensor | None:
    """The indices of the classes among those of a network, if both have the same names; None otherwise."""
    return places_of(names, known, "") if sorted(names) == sorted(known) else None
