"""State dicts: read from files of several forms, checked against a model, written as safetensors."""

import os
import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from sase_attn.files import write_atomically
from sase_attn.weights.genotypes import check_record, record_of

StateDict = dict[str, Tensor]


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
    except MemoryError:
        raise
    except pickle.UnpicklingError:
        raise ValueError(f"{source} holds more than tensors and is not read, because it could execute code") from None
    except Exception as error:
        if isinstance(error, OSError) and error.filename is not None:
            raise  # a file that cannot be opened; torch has others for damaged ones
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{source} is not a readable checkpoint: {reason}") from None
    return state_dict_of(checkpoint, source=str(source))


def state_dict_of(checkpoint: object, *, source: str) -> StateDict:
    """The tensors by name of what a checkpoint holds. Raises ValueError if there are none."""
    for wrapper in ("state_dict_ema", "model_ema", "state_dict", "model"):  # averaged weights first, as timm does
        if isinstance(checkpoint, dict) and isinstance(checkpoint.get(wrapper), dict):
            checkpoint = checkpoint[wrapper]
    if (
        not isinstance(checkpoint, dict)
        or not checkpoint
        or not all(isinstance(key, str) and isinstance(value, Tensor) for key, value in checkpoint.items())
    ):
        raise ValueError(f"{source} holds no state dict (a mapping of names to tensors)")
    return {key.removeprefix("module."): value for key, value in checkpoint.items()}


def check_state_dict(
    weights: Mapping[str, Tensor], model: nn.Module, *, source: str, genotype: str | None = None
) -> None:
    """Raise ValueError naming every key or shape in which `weights` differ from the state dict of `model`.

    Args:
        weights: to be loaded.
        model: that they are for.
        source: where they are from, for the message.
        genotype: the record of the genotype that they were trained with (`read_record`); another one than the model's
            is an error too.
    """
    check_record(genotype, model, source=source)
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


def write_safetensors(
    weights: Mapping[str, Tensor], path: Path, *, metadata: dict[str, str], model: nn.Module | None = None
) -> None:
    """Write a safetensors file, atomically; its header records the genotype of the `model` that the weights are of."""
    tensors = {key: value.contiguous() for key, value in weights.items()}
    record = {} if model is None else record_of(model)
    write_atomically(path, save(tensors, metadata={"format": "pt", **record, **metadata}))
