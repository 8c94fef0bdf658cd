"""Remove channels from attention, in place: `keep_channels`, and `torch_pruning_arguments` for torch-pruning.

    pruner = torch_pruning.pruner.MagnitudePruner(
        model, image, importance=torch_pruning.importance.MagnitudeImportance(), ignored_layers=[model.fc],
        **sase_attn.pruning.torch_pruning_arguments(),
    )
    pruner.step()

torch-pruning follows channels through the functions that autograd records. It mistakes a gate of one channel for a gate
of all channels, and inside a block its rules for reshaping and slicing shift the channel indices each time round a
cycle, so that it never ends. Attention is therefore presented to it as a single layer, as wide as its map.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sase_attn.attention import Attention
from sase_attn.block import SASEBlock
from sase_attn.modules import derived_classes
from sase_attn.ops import OP_SETS, Op


def keep_channels(module: nn.Module, kept: Sequence[int]) -> None:
    """Remove all but these channels from a block, an attention or an operation, in place, and put them in this order.

    The module is then as if built for that number of channels, with the weights of the kept ones. Inner widths, such as
    the hidden one of an excitation, do not change. Parameters are new tensors, so make the optimizer anew.

    Args:
        module: a module of this package, or one of yours that has a method `channel_axes`.
        kept: indices below `module.channels`. Where channels fall into groups, every group must keep the same ones.

    Raises:
        TypeError: the module or one of its submodules does not say which axes run over its channels.
        ValueError: an index is out of range or occurs twice, none is left, or groups would keep different channels.
    """
    parts = _parts(module)
    channels = int(parts[0].channels)
    chosen = [int(index) for index in kept]
    if not chosen or len(set(chosen)) != len(chosen) or not 0 <= min(chosen) <= max(chosen) < channels:
        raise ValueError(f"kept must be different channels from 0 to {channels - 1}, at least one, got {chosen}")
    groups = groups_of(module)
    size = channels // groups
    of_first = chosen[: len(chosen) // groups]
    if chosen != [group * size + index for group in range(groups) for index in of_first]:
        raise ValueError(
            f"{type(module).__name__} has {groups} groups of {size} channels, which must all keep the same channels as "
            f"the first, got {chosen}"
        )

    def indices(length: int) -> Tensor:
        return torch.tensor([start + index for start in range(0, length, size) for index in of_first])

    for part in parts:
        part.channels = len(indices(part.channels))
        for name, axes in part.channel_axes().items():
            for layer, tensor in _tensors(part, name):
                for axis in (axes,) if isinstance(axes, int) else axes:
                    _select(layer, tensor, axis, indices)
                _follow(layer)


def groups_of(module: nn.Module) -> int:
    """The number of channel groups, submodules considered, that must stay of equal size.

    Raises:
        TypeError: as for `keep_channels`.
    """
    parts = _parts(module)
    return int(parts[0].channels // math.gcd(*(part.channels // part.channel_groups() for part in parts)))


def torch_pruning_arguments(forward_fn: Callable[[nn.Module, Any], Any] | None = None) -> dict[str, Any]:
    """Arguments with which torch-pruning prunes attention: for a pruner, or for `DependencyGraph.build_dependency`.

    When the pruner removes channels of the map, `channels` and weights of the attention follow. Attention that does not
    say which axes run over its channels (see `keep_channels`) keeps all of them, and so does every layer that must have
    the same number.

    Args:
        forward_fn: a function to run the network with, called with the network and the example inputs.

    Returns:
        `customized_pruners`, by the classes of all attentions and operations defined by now; and `forward_fn`.
    """
    return {"customized_pruners": pruners(), "forward_fn": _Forward(forward_fn)}


def pruners() -> dict[type[nn.Module], Any]:
    """`customized_pruners` of torch-pruning, by class; they work only together with the `forward_fn` above."""
    one_channel: set[type[nn.Module]] = {*OP_SETS["spatial_squeeze"].values(), *OP_SETS["spatial_excite"].values()}
    bases: tuple[type[nn.Module], ...] = (SASEBlock, Attention, Op)
    classes: list[type[nn.Module]] = [SASEBlock, *(derived for base in bases for derived in derived_classes(base))]
    return {cls: _OfMap() if cls in one_channel else _Channels() for cls in classes}


class _Channels:
    """Prunes a module whose input and output have the same channels; it has the methods of `BasePruningFunc`."""

    pruning_dim = 1

    def prune_out_channels(self, layer: Any, idxs: Sequence[int]) -> Any:
        gone = set(idxs)
        keep_channels(layer, [index for index in range(layer.channels) if index not in gone])
        return layer

    prune_in_channels = prune_out_channels

    def get_out_channels(self, layer: Any) -> int:
        """Channels of the layer; 1, so that none can be removed, if it does not say which axes run over them."""
        return int(layer.channels) if _is_known(layer) else 1

    get_in_channels = get_out_channels

    def get_out_channel_groups(self, layer: nn.Module) -> int:
        return groups_of(layer) if _is_known(layer) else 1

    get_in_channel_groups = get_out_channel_groups


class _OfMap(_Channels):
    """The same for operations whose output has one channel, which is never removed."""

    def get_out_channels(self, layer: Any) -> int:
        return 1

    def get_out_channel_groups(self, layer: nn.Module) -> int:
        return 1

    def prune_out_channels(self, layer: Any, idxs: Sequence[int]) -> Any:
        return layer


class _Forward:
    """Runs a network so that autograd records each attention as a single step from its input to its output."""

    def __init__(self, forward_fn: Callable[[nn.Module, Any], Any] | None) -> None:
        self.forward_fn = forward_fn

    def __call__(self, model: nn.Module, example_inputs: Any) -> Any:
        hooks = [module.register_forward_hook(_as_one_step, prepend=True) for module in _outermost(model)]
        try:
            if self.forward_fn is not None:
                return self.forward_fn(model, example_inputs)
            if isinstance(example_inputs, Mapping):
                return model(**example_inputs)
            return model(*example_inputs) if isinstance(example_inputs, tuple | list) else model(example_inputs)
        finally:
            for hook in hooks:
                hook.remove()


def _as_one_step(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
    """The output, recorded as if one addition had made it from the input."""
    x = inputs[0]
    reduced = [axis for axis in range(x.dim()) if x.shape[axis] != output.shape[axis]]
    source = x.mean(reduced, keepdim=True) if reduced else x
    return output.detach() + (source - source.detach())


def _outermost(model: nn.Module) -> Iterator[nn.Module]:
    if isinstance(model, SASEBlock | Attention | Op):
        yield model
        return
    for child in model.children():
        yield from _outermost(child)


def _parts(module: nn.Module) -> list[Any]:
    """The module and its submodules that have `channel_axes`. Raises TypeError if one of them returns None."""
    parts: list[Any] = [part for part in module.modules() if hasattr(part, "channel_axes")]
    unknown = [part for part in parts if part.channel_axes() is None]
    if unknown or not parts or parts[0] is not module:
        name = type(unknown[0] if unknown else module).__name__
        raise TypeError(f"{name} does not say where its channels are: give it a method channel_axes()")
    return parts


def _is_known(module: nn.Module) -> bool:
    try:
        return bool(_parts(module))
    except TypeError:
        return False


def _tensors(part: nn.Module, name: str) -> Iterator[tuple[nn.Module, str]]:
    """The layer and name of a parameter; for the name of a layer, those of all its parameters and buffers with axes."""
    owner, _, last = name.rpartition(".")
    layer = part.get_submodule(owner)
    if last in layer._parameters:
        yield layer, last
        return
    for inner in part.get_submodule(name).modules():
        for key, tensor in [*inner._parameters.items(), *inner._buffers.items()]:
            if tensor is not None and tensor.dim() > 0:
                yield inner, key


def _select(layer: nn.Module, name: str, axis: int, indices: Callable[[int], Tensor]) -> None:
    old = getattr(layer, name)
    if old is None or axis >= old.dim():  # such as a bias, which has no axis of inputs
        return
    at = indices(old.shape[axis]).to(old.device)
    new = old.detach().index_select(axis, at)
    if isinstance(old, nn.Parameter):
        new = nn.Parameter(new, old.requires_grad)
        new.grad = None if old.grad is None else old.grad.index_select(axis, at)
    setattr(layer, name, new)


def _follow(layer: nn.Module) -> None:
    """Make the width attributes of torch's layers, such as `out_channels`, agree with their tensors."""
    if isinstance(layer, nn.modules.conv._ConvNd):
        by_channel = layer.groups == layer.in_channels == layer.out_channels
        layer.out_channels = layer.weight.shape[0]
        layer.groups = layer.out_channels if by_channel else layer.groups
        layer.in_channels = layer.weight.shape[1] * layer.groups
    elif isinstance(layer, nn.Linear):
        layer.out_features, layer.in_features = layer.weight.shape
    elif isinstance(layer, nn.modules.batchnorm._NormBase):
        shapes = [tensor.shape[0] for tensor in (layer.weight, layer.running_mean) if tensor is not None]
        layer.num_features = shapes[0] if shapes else layer.num_features
