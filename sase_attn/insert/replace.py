"""`replace`: exchange a network's own attention of a kind, or its 3×3 convolutions, for other attention."""

import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from sase_attn.attentions.registry import attention_factory
from sase_attn.attentions.starting_gain import PUBLISHED
from sase_attn.errors import unknown_name
from sase_attn.genotype import Genotype
from sase_attn.insert.attached import Attached
from sase_attn.insert.channels import channels_of, warn_of_unreached
from sase_attn.insert.keep_weights import can_keep, class_of, with_weights
from sase_attn.insert.kinds import (
    attention_inventory,
    find_attention,
    is_convolution,
    list_kinds,
    look_alikes,
    of_kind,
    present_kinds,
    refuse_hooks,
)
from sase_attn.insert.nearby import nearby_tensor
from sase_attn.modules import matches, matching
from sase_attn.ops.arguments import options


@dataclass(frozen=True)
class Replacement:
    """One module that `replace` exchanged: its name, its classes before and after, its channels.

    `kept` says whether the new module uses the old one's parameters, under unchanged keys of the state dict.
    """

    name: str
    old: str
    new: str
    channels: int
    kept: bool


def replace(
    model: nn.Module,
    old: str | type[nn.Module],
    *,
    with_: str | Genotype | Callable[..., nn.Module],
    keep_weights: bool | None = None,
    only: str | Sequence[str] | None = None,
    gain: str | float = PUBLISHED,
    attn_args: Mapping[str, Any] | None = None,
    dry_run: bool = False,
) -> list[Replacement]:
    """Replace every module of a kind by other attention, in place.

    Names of modules do not change, so that pretrained weights still fit the rest of the network, and `features_only`
    and scripting still work.

    Args:
        model: any network, for example of timm or torchvision.
        old: a kind ("se" for every known squeeze-and-excitation class, "eca", "cbam", …: see `list_kinds`), or a class.
            "conv3x3" are 3×3 convolutions with as many outputs as inputs, for attention that takes the place of one,
            such as "psa" and "spatial_sase"; it gets their stride.
        with_: as `attn` of `attach`: an attention's name, a genotype, or a class or function called with the channels.
        keep_weights: whether the new module uses the old one's parameters. That needs squeeze-and-excitation before and
            an attention with `from_squeeze_excite` (such as "tiled_se") after. None: if that is so; other attention
            starts anew, and then `Replacement.kept` is False. True: it is required. False: always start anew.
        only: a pattern of names or several, matched dot by dot; by default every module of the kind.
        gain: the gain of attention that starts anew: "published", "unit", or a number to divide out; see
            `sase_attn.attentions.set_gain`. Where a batch norm follows, as in EfficientNets, it hardly matters.
        attn_args: further arguments of the new attention.
        dry_run: report what would be replaced, and change nothing.

    Returns:
        The modules that were replaced, in the network's order. A module that is used in several places stays one.

    Warns:
        UserWarning: `only` also matches modules of another kind; or, for "se" without `only`, there are modules that
            look like squeeze-and-excitation but are of unknown class (see `register_se`); or a forward pass is needed
            to see the channels of some modules, and does not reach them. The message names the modules.

    Raises:
        ValueError: nothing matched (the network's attention and the known kinds are given); a match has hooks,
            which would be lost, or an unknown number of channels, or is a convolution with a stride that the
            attention does not have. The network is then untouched.
        TypeError: `keep_weights=True` where weights cannot be kept; the model is scripted; an argument that the
            attention does not have.
        UnknownNameError: no such kind, attention or module pattern.
    """
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        raise TypeError("cannot replace modules of a scripted model; replace first, then torch.jit.script")
    attn_args = options("attn_args", attn_args)
    build, new_class = attention_factory(with_, {"gain": gain, **attn_args}), class_of(with_)
    found = find_attention(model, of_kind(old))
    if "" in found:
        raise ValueError(f"the model itself is a {type(model).__name__}; pass the network that holds it")
    chosen = found if only is None else _chosen(model, found, old, only)
    if not chosen:
        kind = old if isinstance(old, str) else old.__name__
        kinds = present_kinds(model)
        hint = f"it has kinds {', '.join(kinds)}" if kinds else f"kinds are {', '.join(list_kinds())}, or a class"
        raise ValueError(
            f"nothing to replace: wanted modules of kind {kind!r}, got a {type(model).__name__} with attention-like "
            f"modules: {attention_inventory(model)}; {hint}"
        )
    channels = channels_of(model, chosen)
    warn_of_unreached(chosen, channels)
    chosen = {name: module for name, module in chosen.items() if name in channels}
    planned: dict[int, tuple[nn.Module, bool]] = {}
    for name, module in chosen.items():
        if id(module) not in planned:
            refuse_hooks(name, module, "replacing")
            if can_keep(name, module, with_, new_class, keep_weights):
                planned[id(module)] = (with_weights(name, module, new_class, attn_args), True)
            else:
                tensor = nearby_tensor(model, name)
                stride = _stride(name, module, with_, new_class)
                new = build(channels[name], **stride, device=tensor.device, dtype=tensor.dtype)
                planned[id(module)] = (new.train(module.training), False)
    if old == "se" and only is None and (unknown := look_alikes(model)):
        warnings.warn(
            f"left as they are, being of no known class (see sase_attn.insert.register_se): {_listed(unknown)}",
            stacklevel=2,
        )
    report = []
    for name, module in chosen.items():
        new, kept = planned[id(module)]
        report.append(Replacement(name, type(module).__name__, type(new).__name__, channels[name], kept))
        if not dry_run:
            model.set_submodule(name, new)
            holder = model.get_submodule(name.rpartition(".")[0])
            if isinstance(holder, Attached) and holder.attn is new and not kept:
                holder.scale, holder.constant = 1.0, False  # they were those of the old attention
    return report


def _chosen(
    model: nn.Module, found: Mapping[str, nn.Module], old: str | type[nn.Module], only: str | Sequence[str]
) -> dict[str, nn.Module]:
    """The modules of `found` whose names match `only`. Warns of matches that are of another kind."""
    modules = dict(model.named_modules(remove_duplicate=False))
    kind = old if isinstance(old, str) else old.__name__
    others: dict[str, nn.Module] = {}
    patterns = [only] if isinstance(only, str) else only
    for pattern in patterns:
        hits = {name: module for name, module in modules.items() if matches(name, pattern)}
        if not hits:
            raise unknown_name("module pattern", pattern, [*found] or [name for name in modules if name])
        if not hits.keys() & found.keys():
            raise ValueError(f"{pattern!r} matches no module of kind {kind!r}, but {_listed(hits)}")
        others |= {name: m for name, m in hits.items() if name not in found and not isinstance(m, nn.Identity)}
    if others:
        warnings.warn(f"left as they are, not being of kind {kind!r}: {_listed(others)}", stacklevel=3)
    return {name: found[name] for name in matching(found, patterns)}


def _stride(name: str, module: nn.Module, with_: object, new_class: Any) -> dict[str, int]:
    """The argument that passes the stride of a replaced convolution to the new attention; empty for a stride of 1."""
    if not isinstance(module, nn.Conv2d) or not is_convolution(module) or module.stride == (1, 1):
        return {}
    if not callable(new_class) or "stride" not in inspect.signature(new_class).parameters:
        label = with_ if isinstance(with_, str) else getattr(with_, "__name__", repr(with_))
        raise ValueError(
            f"{name} has stride {module.stride[0]}, and {label} takes no stride; replace by attention that does, such "
            "as psa or spatial_sase, or leave it out by only="
        )
    return {"stride": module.stride[0]}


def _listed(modules: Mapping[str, nn.Module], most: int = 8) -> str:
    shown = [f"{name or 'the model'} ({type(module).__name__})" for name, module in list(modules.items())[:most]]
    return ", ".join(shown) + (f" and {len(modules) - most} more" if len(modules) > most else "")
