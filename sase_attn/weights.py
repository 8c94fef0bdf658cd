"""State dict in, state dict out: warm start from a network without attention, and the authors' checkpoints."""

import os
import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path

import timm
import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from sase_attn.attentions.attention import Attention
from sase_attn.block import SASEBlock
from sase_attn.errors import unknown_name
from sase_attn.files import write_atomically
from sase_attn.insert.attach import Attached, absorbing, constant_gain

StateDict = dict[str, Tensor]

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


def warm_start(state_dict: Mapping[str, Tensor], model: nn.Module, *, preserve_output: bool = True) -> StateDict:
    """Weights of a network without attention, completed for `model`, the same network with attention.

    Every attention starts as a constant gain, which is divided out of the layer before it, so that in eval mode the
    outputs are those of the original network. Weights that hold attention of their own are returned as they are. The
    form is that of timm's `pretrained_filter_fn`; `state_dict` is not changed.

    Args:
        state_dict: the original network's.
        model: the network with attention behind its layers, made by `attach`, or in the `se` slot of a residual block.
        preserve_output: False lets every attention start as it was built, and divides nothing out.

    Raises:
        TypeError: an attention of `model` cannot start as a constant; the message says why.
        ValueError: the layer before an attention cannot absorb a gain.
    """
    weights = dict(state_dict)
    slots = _attention_slots(model)
    own = tuple(f"{name}." for host, attn in slots for name in (attn, *([host] if host.endswith(".host") else [])))
    if any(key.startswith(own) for key in weights):
        return weights
    for host_name, attn_name in slots:
        host, attn = model.get_submodule(host_name), model.get_submodule(attn_name)
        plain_name = host_name.removesuffix(".host")
        for key in host.state_dict():
            if f"{plain_name}.{key}" in weights:
                weights[f"{host_name}.{key}"] = weights.pop(f"{plain_name}.{key}")
        gain = constant_gain(attn) if preserve_output else 1.0
        for parameter in absorbing(host_name, host, gain):
            key = f"{host_name}.{parameter}"
            if key in weights:
                weights[key] = weights[key] / gain
        weights |= {f"{attn_name}.{key}": value.clone() for key, value in attn.state_dict().items()}
    return weights


def without_replaced(state_dict: Mapping[str, Tensor], model: nn.Module, replaced: Iterable[str]) -> StateDict:
    """Weights of a network before `replace`, completed for `model`, the network after it.

    Weights of the old modules, whose names are `replaced`, are dropped; the new ones keep those they were built with.
    """
    weights = dict(state_dict)
    for name in replaced:
        weights = {key: value for key, value in weights.items() if not key.startswith(f"{name}.")}
        new = model.get_submodule(name).state_dict()
        weights |= {f"{name}.{key}": value.clone() for key, value in new.items()}
    return weights


def _attention_slots(model: nn.Module) -> list[tuple[str, str]]:
    """(layer, attention behind it) for everything attached, and for the `se` slot of timm's residual blocks."""
    slots = []
    for name, module in model.named_modules():
        if isinstance(module, Attached):
            slots.append((f"{name}.host", f"{name}.attn"))
        elif isinstance(getattr(module, "se", None), SASEBlock | Attention):
            children = [child for child, _ in module.named_children()]
            norm = "bn3" if "bn3" in children else "bn2"
            if norm in children[: children.index("se")]:  # in MobileNets `se` comes before the last norm
                slots.append((f"{name}.{norm}", f"{name}.se"))
    return slots


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


def read_checkpoint(source: str | os.PathLike[str]) -> StateDict:
    """Tensors of a `.safetensors` file or of a torch checkpoint, which may wrap them in `state_dict` or `model`.

    Averaged weights (`state_dict_ema`, `model_ema`) are preferred where there are both, and `module.` prefixes dropped.
    Torch checkpoints are read with `weights_only=True`: nothing in the file is executed.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is neither, is damaged, or holds no state dict.
    """
    source = Path(source)
    if not source.is_file():
        raise FileNotFoundError(f"no such checkpoint: {source}")
    try:
        if source.suffix == ".safetensors":
            return load_file(source)
        checkpoint = torch.load(source, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise ValueError(f"{source} holds more than tensors and is not read, because it could execute code") from None
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{source} is not a readable checkpoint: {reason}") from None
    for wrapper in ("state_dict_ema", "model_ema", "state_dict", "model"):  # averaged weights first, as timm does
        if isinstance(checkpoint, dict) and isinstance(checkpoint.get(wrapper), dict):
            checkpoint = checkpoint[wrapper]
    if (
        not isinstance(checkpoint, dict)
        or not checkpoint
        or not all(isinstance(v, Tensor) for v in checkpoint.values())
    ):
        raise ValueError(f"{source} holds no state dict (a mapping of names to tensors)")
    return {key.removeprefix("module."): value for key, value in checkpoint.items()}


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
    write_safetensors(weights, output, metadata={"architecture": model_name})
    return len(weights)


def check_state_dict(weights: Mapping[str, Tensor], model: nn.Module, *, source: str) -> None:
    """Raise ValueError naming every key or shape in which `weights` differ from the state dict of `model`."""
    wanted = model.state_dict()
    problems = [f"unexpected {key}" for key in weights if key not in wanted]
    problems += [f"missing {key}" for key in wanted if key not in weights]
    problems += [
        f"{key} has shape {tuple(weights[key].shape)}, expected {tuple(value.shape)}"
        for key, value in wanted.items()
        if key in weights and weights[key].shape != value.shape
    ]
    if problems:
        more = f"; and {len(problems) - 8} more" if len(problems) > 8 else ""
        raise ValueError(f"{source} does not fit the model: {'; '.join(problems[:8])}{more}")


def write_safetensors(weights: Mapping[str, Tensor], path: Path, *, metadata: dict[str, str]) -> None:
    """Write a safetensors file, atomically."""
    tensors = {key: value.contiguous() for key, value in weights.items()}
    write_atomically(path, save(tensors, metadata={"format": "pt", **metadata}))
