"""`init_weights`: initialise every tensor of a network that was built on the meta device."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from sase_attn.attention import Attention
from sase_attn.insert.attached import Attached
from sase_attn.spatially_adaptive.spectral_norm import draw_normalised, has_spectral_norm


@torch.no_grad()
def init_weights(model: nn.Module, **options: Any) -> None:
    """Initialise every tensor of a network: one that was built on the meta device, after `to_empty`.

    First `reset_parameters()` of every module is called, inner modules first. Then the network's own `init_weights()`
    is called, if it has one, as timm's ResNets have; otherwise those of the networks in it, such as a ResNet in a
    module of Lightning. It sees the network without the attention that was put into it, so that attention keeps its
    own initial values and the gain that was asked for.

    Many networks are initialised in their constructor only; these get the default initialisation of torch's layers.

    Args:
        model: any network, also a sharded one.
        options: arguments of its own `init_weights()`, such as timm's `zero_init_last`.

    Raises:
        ValueError: the network is on the meta device; or nothing initialises some tensors of a module, which are named.
        TypeError: there are options, but neither the network nor a part of it has an `init_weights()` of its own.
    """
    if options and next(_with_own(model), None) is None:
        raise TypeError(f"{type(model).__name__} has no init_weights() that takes {', '.join(options)}")
    tensors = dict(chain(model.named_parameters(), model.named_buffers()))
    on_meta = next((name for name, tensor in tensors.items() if tensor.is_meta), None)
    if on_meta is not None:
        raise ValueError(f"wanted a network with memory, got {on_meta} on the meta device; call to_empty first")
    for tensor in tensors.values():
        if tensor.is_floating_point():
            tensor.fill_(torch.nan)  # a tensor that still has NaN at the end was not initialised
    model.apply(_reset)
    with _without_attention(model):
        for network in list(_with_own(model)):
            network.init_weights(**options)  # type: ignore[operator]
    owners = {name: model.get_submodule(name.rpartition(".")[0]) for name in tensors}
    if left := [name for name, tensor in tensors.items() if not _has_value(tensor, owners[name])]:
        classes = sorted({type(owners[name]).__name__ for name in left})
        more = f" and {len(left) - 4} more" if len(left) > 4 else ""
        raise ValueError(
            f"wanted a reset_parameters() of {', '.join(classes)} that fills what it owns; nothing gives a value to "
            f"{', '.join(left[:4])}{more}"
        )


def _reset(module: nn.Module) -> None:
    if has_spectral_norm(module):
        draw_normalised(module)
    elif hasattr(module, "reset_parameters"):
        module.reset_parameters()  # type: ignore[operator]


def _with_own(module: nn.Module) -> Iterator[nn.Module]:
    """The module if it has an `init_weights()` of its own, otherwise the outermost of its parts that have one."""
    if hasattr(module, "init_weights"):
        yield module
    else:
        for child in module.children():
            yield from _with_own(child)


def _has_value(tensor: Tensor, owner: nn.Module) -> bool:
    """Whether a tensor, or this process's shard of it, has no NaN left; for integers, whether its owner can fill it."""
    if not tensor.is_floating_point():
        return hasattr(owner, "reset_parameters") or hasattr(owner, "init_weights")
    return not getattr(tensor, "to_local", lambda: tensor)().isnan().any()


@contextmanager
def _without_attention(model: nn.Module) -> Iterator[None]:
    """Within the context, attached attention is removed, and other attention is replaced by identities."""
    places = [
        (name, module)
        for name, module in model.named_modules(remove_duplicate=False)
        if name and isinstance(module, Attached | Attention)
    ]
    try:
        for name, module in reversed(places):
            model.set_submodule(name, module.host if isinstance(module, Attached) else nn.Identity())
        yield
    finally:
        for name, module in places:
            model.set_submodule(name, module)
