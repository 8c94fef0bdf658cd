"""`read_file`: read files of weights that `torch.save` wrote, or safetensors; nothing in them is executed."""

import argparse
import os
import pickle
import warnings
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from sase_attn.weights.file_kinds import other_kind

_SCHEMES = ("local-dir:", "hf-hub:", "hf_hub:")  # prefixes by which timm loads from other places
_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".tar", ".pkl", ".onnx", ".pt2", ".npz")
_LONGEST_HEADER = 100_000_000  # bytes, the limit of safetensors


class LeftOut:
    """An empty placeholder for an object in a file whose class is not torch's."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


def read_file(source: str | os.PathLike[str], device: str = "cpu", *, leave_out: bool = False) -> object:
    """Read a file: the tensors of a safetensors file by name, or the object that `torch.save` was given.

    The kind of file is determined by its content, not its name. Only objects of torch's own classes are made, and the
    `argparse.Namespace` of arguments that training scripts save.

    Args:
        source: the file.
        device: the device for the tensors of a torch file; "meta" does not read them.
        leave_out: whether objects of other classes become `LeftOut`; otherwise they are an error.

    Raises:
        FileNotFoundError: no such file. IsADirectoryError: it is a folder. OSError: it cannot be read.
        ValueError: it is of another kind, is damaged, or holds what could execute code.
    """
    source = Path(source)
    if source.is_dir():
        raise IsADirectoryError(f"{source} is a folder: wanted a file of weights, such as its model.safetensors")
    if not source.is_file():
        raise FileNotFoundError(f"no such checkpoint: {source}")
    if (kind := other_kind(source)) is not None:
        raise ValueError(f"{source} is no file of weights, wanted safetensors or what torch.save wrote: it is {kind}")
    try:
        if is_safetensors(source):
            return load_file(source)
        with (
            safe_globals([argparse.Namespace, *(_left_out(source) if leave_out else ())]),
            warnings.catch_warnings(action="ignore"),
        ):  # torch warns of some pickles
            return torch.load(source, map_location=device, weights_only=True)
    except MemoryError:
        raise
    except pickle.UnpicklingError:
        raise ValueError(_more_than_tensors(source)) from None
    except Exception as error:
        if isinstance(error, OSError) and error.filename is not None:
            raise  # the file cannot be opened; without a file name, torch found it damaged
        reason = str(error).splitlines()[0].partition(". ")[0] if str(error) else type(error).__name__
        raise ValueError(f"{source} is not a readable checkpoint: {reason}") from None


def read_metadata(source: str | os.PathLike[str]) -> dict[str, str]:
    """The metadata in the header of a safetensors file; empty for any other file.

    Raises:
        ValueError: the header is damaged. OSError: the file cannot be read.
    """
    source = Path(source)
    if not is_safetensors(source):
        return {}
    try:
        with safe_open(source, framework="pt") as file:
            return file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(f"{source} is no safetensors file, or a damaged one: {error}") from None


def is_named_like_weights(name: str) -> bool:
    """Whether a name is that of a file of weights, or a path, and not the name of a model."""
    return not name.startswith(_SCHEMES) and ("/" in name or name.endswith(_SUFFIXES))


def is_safetensors(source: Path) -> bool:
    """Whether a file starts like safetensors, with the length of a JSON header."""
    with source.open("rb") as file:
        start = file.read(9)
    return len(start) == 9 and start[8:] == b"{" and int.from_bytes(start[:8], "little") <= _LONGEST_HEADER


def _left_out(source: Path) -> list[tuple[type, str]]:
    return [(LeftOut, name) for name in _other_classes(source)]


def _other_classes(source: Path) -> list[str]:
    """Names of the classes and functions in a file that torch refuses to call, as far as it tells."""
    try:
        with safe_globals([argparse.Namespace]):
            return get_unsafe_globals_in_checkpoint(source)
    except Exception:  # the file is not an archive, as written by old versions of torch
        return []


def _more_than_tensors(source: Path) -> str:
    found = _other_classes(source)
    names = f" ({', '.join(sorted(found)[:3])}{', …' * (len(found) > 3)})" if found else ""
    return (
        f"{source} holds more than tensors{names} and is not read, because it could execute code; "
        "where it was made, save its weights alone: torch.save(model.state_dict(), FILE)"
    )


def new_safetensors(path: str | os.PathLike[str], *, overwrite: bool) -> Path:
    """Check the path of a safetensors file to be written, before the work, and return it.

    Raises:
        ValueError: it has another suffix. FileNotFoundError: its folder does not exist. FileExistsError: it exists.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"the output must be named *.safetensors, got {path.name}")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"no such folder: {path.parent}")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists")
    return path
