"""Checkpoints of the authors (github.com/pusheng0902/SASE) for the models of this package."""

import os
from collections.abc import Mapping
from pathlib import Path

import timm
from torch import Tensor

from sase_attn.errors import unknown_name
from sase_attn.weights.state_dicts import StateDict, check_state_dict, read_checkpoint, write_safetensors

# Keys of a derived block in the authors' release → keys of `SASEBlock`.
_AUTHORS_KEYS = {
    "_ops.0.mixer.mixer.0.weight": "channel_squeeze.mixer.weight",
    "_ops.1.0.weight": "channel_excite.fc1.weight",
    "_ops.1.2.weight": "channel_excite.fc2.weight",
    "_ops.2.alpha": "channel_gate.alpha",
    "_ops.2.beta": "channel_gate.beta",
    "_ops.5.0.weight": "spatial_excite.first.weight",
    "_ops.5.2.weight": "spatial_excite.rest.0.weight",
    "mixer.0.weight": "mix.weight",
    **{
        f"mixer.1.{name}": f"norm.{name}"
        for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    },
}


def from_authors(state_dict: Mapping[str, Tensor]) -> StateDict:
    """The authors' keys (github.com/pusheng0902/SASE) in ours; changes no value.

    Raises:
        ValueError: a key below `attention.` is not one of the searched block's.
    """
    weights = {}
    for key, value in state_dict.items():
        block, found, rest = key.partition(".attention.")
        if found:
            if rest not in _AUTHORS_KEYS:
                raise ValueError(f"{key} is no key of the authors' searched block; only that genotype can be imported")
            key = f"{block}.se.{_AUTHORS_KEYS[rest]}"
        weights[key] = value
    return weights


def import_checkpoint(
    source: str | os.PathLike[str], model_name: str, output: str | os.PathLike[str], *, overwrite: bool = False
) -> int:
    """Convert a checkpoint of the authors to safetensors for one of our models, and return the number of tensors.

    Args:
        source: the authors' checkpoint, for example `pnorm_imgnet_r50.pth`.
        model_name: the model it is for, for example "sase_resnet50"; keys and shapes are checked against it.
        output: the `.safetensors` file to write, atomically.
        overwrite: replace an existing file.

    Raises:
        FileNotFoundError: no such source or output folder. FileExistsError: the output exists.
        ValueError: the output is no `.safetensors`; the source is unreadable, or its keys or shapes are not the
            model's, in which case each is named.
        UnknownNameError: no such model.
    """
    output = Path(output)
    if output.suffix != ".safetensors":
        raise ValueError(f"the output must be named *.safetensors, got {output.name}")
    if not output.parent.is_dir():
        raise FileNotFoundError(f"no such folder: {output.parent}")
    if output.exists() and not overwrite:
        raise FileExistsError(f"{output} exists")
    if not timm.is_model(model_name):
        raise unknown_name("model", model_name, timm.list_models("sase_*"))
    weights = from_authors(read_checkpoint(source))
    if "fc.weight" not in weights:
        raise ValueError(f"{source} has no fc.weight, so it is no classifier of the authors")
    model = timm.create_model(model_name, num_classes=len(weights["fc.weight"]), device="meta")
    check_state_dict(weights, model, source=str(source))
    write_safetensors(weights, output, metadata={"architecture": model_name}, model=model)
    return len(weights)
