"""State dicts: read from files of several forms, checked against a model, written as safetensors."""

import json
import os
from collections.abc import Mapping
from typing import BinaryIO

import torch
from safetensors.torch import save
from torch import Tensor, nn

from sase_attn.files import write_atomically
from sase_attn.ops.op import PerPosition, differs_in_size
from sase_attn.weights.files import read_file
from sase_attn.weights.fitting import fitted, is_without_attention, other_network_hint
from sase_attn.weights.genotypes import check_record, record_of
from sase_attn.weights.wrappers import StateDict, state_dict_of

_LENGTH = 8  # bytes at the start of a safetensors file that hold the length of its header
_METADATA = "__metadata__"  # key of the metadata in the header


def read_checkpoint(source: str | os.PathLike[str], model: nn.Module | None = None) -> StateDict:
    """The state dict in a safetensors file, or in a checkpoint that a training script wrote by `torch.save`.

    If there are several state dicts, the averaged one is chosen, as by timm; names of wrappers are dropped: see
    `state_dict_of`. Nothing in the file is executed: see `read_file`.

    Args:
        source: the file.
        model: the model that the weights are for; if their names have a prefix before its names, it is dropped: see
            `fitted`.

    Raises:
        FileNotFoundError: no such file. IsADirectoryError: it is a folder. OSError: it cannot be read.
        ValueError: the file is of another kind, which is named, is damaged, or holds no state dict.
    """
    weights = state_dict_of(read_file(source), source=str(source))
    return weights if model is None else fitted(weights, model, source=str(source))


def check_state_dict(
    weights: Mapping[str, Tensor], model: nn.Module, *, source: str, genotype: str | None = None
) -> None:
    """Raise ValueError naming every key or shape in which `weights` differ from the state dict of `model`.

    Args:
        weights: the weights to be loaded.
        model: the model that they are for.
        source: the name of their source, for error messages.
        genotype: the record of the genotype that they were trained with (`read_record`); another one than the model's
            is an error too.
    """
    check_record(genotype, model, source=source)
    wanted, sized = model.state_dict(), _per_position(model)
    problems = [f"unexpected {key}" for key in weights if key not in wanted]
    problems += [f"missing {key}" for key in wanted if key not in weights]
    problems += [
        f"{key} has shape {tuple(weights[key].shape)}, expected {tuple(value.shape)}"
        for key, value in wanted.items()
        if key in weights
        and weights[key].shape != value.shape
        and not (key in sized and differs_in_size(value.shape, weights[key].shape))
    ]
    if is_without_attention(weights, model):
        raise ValueError(
            f"{source} does not fit the model: it holds weights of the network without attention; "
            "start a training from them by init_from (--init-from FILE)"
        )
    if problems:
        more = f"; and {len(problems) - 8} more" if len(problems) > 8 else ""
        hint = other_network_hint(weights, model)
        raise ValueError(f"{source} does not fit the model: {'; '.join(problems[:8])}{more}{f'; {hint}' * bool(hint)}")


def _per_position(model: nn.Module) -> set[str]:
    """Names of weights for each position of a map, whose size adapts to what is loaded."""
    ops = [(name, op) for name, op in model.named_modules() if isinstance(op, PerPosition)]
    return {f"{name}.{weight}" for name, op in ops for weight in op.per_position}


def write_safetensors(
    weights: Mapping[str, Tensor],
    path: str | os.PathLike[str],
    *,
    metadata: dict[str, str],
    model: nn.Module | None = None,
) -> None:
    """Write a safetensors file, atomically. The same weights and metadata are written as the same bytes.

    Args:
        weights: the tensors by name. Names that share a tensor, as those of a layer in two places, get a copy each.
        path: the file; one that exists is replaced.
        metadata: what to write into the header, which `read_metadata` returns.
        model: the model that the weights are of; the header then records its genotype and its gains too.

    Raises:
        OSError: the file cannot be written.
    """
    tensors = _apart(weights)
    record = {} if model is None else record_of(model)
    content = save(tensors, metadata={"format": "pt", **record, **metadata})
    header, start = _in_order(content)

    def write(file: BinaryIO) -> None:
        file.write(header)
        file.write(memoryview(content)[start:])

    write_atomically(path, write)


def _apart(weights: Mapping[str, Tensor]) -> StateDict:
    """The weights as contiguous tensors, none of which shares memory with another, as safetensors requires."""
    tensors: StateDict = {}
    used: set[tuple[torch.device, int]] = set()
    for key, value in weights.items():
        memory = value.device, value.untyped_storage().data_ptr()
        tensors[key] = value.clone(memory_format=torch.contiguous_format) if memory in used else value.contiguous()
        used.add(memory)
    return tensors


def _in_order(content: bytes) -> tuple[bytes, int]:
    """The header of a safetensors file with sorted metadata, which safetensors does not sort, and the header's end."""
    start = _LENGTH + int.from_bytes(content[:_LENGTH], "little")
    header = json.loads(content[_LENGTH:start])
    header[_METADATA] = dict(sorted(header[_METADATA].items()))
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _LENGTH)  # the format requires tensors to begin at a multiple of eight
    return len(text).to_bytes(_LENGTH, "little") + text, start
