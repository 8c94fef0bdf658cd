"""`state_dict_of`: find the state dict in a checkpoint of a training script, and drop the names of wrappers."""

from collections.abc import Mapping
from typing import TypeGuard

from torch import Tensor

StateDict = dict[str, Tensor]
"""Tensors by name, as `torch.nn.Module.state_dict` returns them."""

# Usual keys, with averaged weights first, as in timm.
_WRAPPERS = (
    "state_dict_ema", "model_ema", "ema", "state_dict", "model_state_dict", "model", "net", "network", "module",
)  # fmt: skip
# Names that wrappers add: DistributedDataParallel, DataParallel and AveragedModel at the front; torch.compile, FSDP and
# activation checkpointing anywhere.
_AT_FRONT = "module."
_ANYWHERE = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
_AVERAGED = "n_averaged"
_DEPTH = 3


def state_dict_of(checkpoint: object, *, source: str) -> StateDict:
    """The state dict in a checkpoint, without the names of wrappers around the network.

    Args:
        checkpoint: a state dict, or a mapping that holds one, possibly nested. It is found by the first usual key,
            averaged weights first; or it is the only state dict in the mapping.
        source: the name of its source, for error messages.

    Raises:
        ValueError: there is no state dict, or there are several under other names, or two of its names are the same
            without those of wrappers.
    """
    found = _inner(checkpoint, source, _DEPTH)
    if found is None:
        raise ValueError(f"{source} holds no state dict (a mapping of names to tensors): {_what_it_holds(checkpoint)}")
    names = {key: _without_wrappers(key) for key in found}
    if all(key.startswith(_AT_FRONT) for key in found if key != _AVERAGED):
        names.pop(_AVERAGED, None)
    keys: dict[str, str] = {}
    for key, name in names.items():
        if (first := keys.setdefault(name, key)) != key:
            raise ValueError(f"{source} holds both {first} and {key}, which are one name without wrappers: save one")
    return {name: found[key] for name, key in keys.items()}


def is_state_dict(value: object) -> TypeGuard[Mapping[str, Tensor]]:
    """Whether a value is a mapping from names to tensors that is not empty."""
    return (
        isinstance(value, Mapping)
        and bool(value)
        and all(isinstance(key, str) and isinstance(inner, Tensor) for key, inner in value.items())
    )


def _inner(value: object, source: str, depth: int) -> Mapping[str, Tensor] | None:
    """The state dict that a value is, or holds within `depth` nested mappings."""
    if is_state_dict(value):
        return value
    if not isinstance(value, Mapping) or not depth:
        return None
    for name in _WRAPPERS:
        if (found := _inner(value.get(name), source, depth - 1)) is not None:
            return found
    others = [name for name, inner in value.items() if is_state_dict(inner)]
    if len(others) > 1:
        listed = ", ".join(map(str, others[:4]))
        raise ValueError(f"{source} holds several state dicts ({listed}): save the one to load")
    return value[others[0]] if others else None


def _without_wrappers(name: str) -> str:
    name = ".".join(part for part in name.split(".") if part not in _ANYWHERE)
    while name.startswith(_AT_FRONT):
        name = name.removeprefix(_AT_FRONT)
    return name


def _what_it_holds(checkpoint: object) -> str:
    if not isinstance(checkpoint, Mapping):
        return f"it holds a {type(checkpoint).__name__}"
    for inner in (checkpoint, *checkpoint.values()):
        if isinstance(inner, Mapping) and any(isinstance(value, Tensor) for value in inner.values()):
            for name, value in inner.items():
                if not isinstance(value, Tensor):
                    return f"{name} in it is a {type(value).__name__}"
                if not isinstance(name, str):
                    return f"{name} in it, the name of a tensor, is no string"
    listed = ", ".join(str(key) for key in list(checkpoint)[:5])
    return f"it holds {listed or 'nothing'}{', …' * (len(checkpoint) > 5)}"
