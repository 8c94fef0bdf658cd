"""Kinds of attention by name, and the modules of a network that belong to a kind."""

import re
from collections import Counter
from collections.abc import Callable, Iterator

from torch import nn

from sase_attn.attention import Attention
from sase_attn.attentions.registry import ATTENTIONS, list_attentions
from sase_attn.errors import unknown_name
from sase_attn.insert.squeeze_excite import describe_se

# Classes of timm and others, in addition to those of `list_attentions()`; a name in both covers both. Classes are named
# in full, so that none has to be imported to be recognised.
_OTHERS = {
    "eca": ("timm.layers.eca.EcaModule", "timm.layers.eca.CecaModule"),
    "cbam": (
        "timm.layers.cbam.CbamModule",
        "timm.layers.cbam.LightCbamModule",
        "ultralytics.nn.modules.conv.CBAM",
    ),
    "scse": ("segmentation_models_pytorch.base.modules.SCSEModule",),
    "gc": ("timm.layers.global_context.GlobalContext",),
    "ge": ("timm.layers.gather_excite.GatherExcite",),
    "coord": ("timm.layers.coord_attn.CoordAttn", "timm.layers.coord_attn.SimpleCoordAttn"),
    "ela": ("timm.layers.coord_attn.EfficientLocalAttn",),
    "strip": ("timm.layers.coord_attn.StripAttn",),
}
CONVOLUTIONS = "conv3x3"
_TILED = ("sase_attn.tiling.block.TiledSE",)
_SLOTS = {"se", "se_module", "se_layer", "se_block", "squeeze_excite", "squeeze_excitation"}
_SE_CLASS = re.compile(r"(E|Eff\w*)?(SE|[Ss]e|Squeeze(And)?Excit\w*)(Module|Layer|Block|Unit|Attention|2d)?")
_INLINE = re.compile(r"_?se_?(reduce|expand)")
_ATTENTION_CLASS = re.compile(r"Attn|Attention|Excit|SelectiveKernel$|GlobalContext$|Eca|ECA|Cbam|CBAM|MHSA")


def list_kinds() -> list[str]:
    """Names of the kinds of modules that can be replaced: of attention, and "conv3x3" (see `is_convolution`)."""
    return list(dict.fromkeys([*list_attentions(), *_OTHERS, CONVOLUTIONS]))


def of_kind(kind: str | type[nn.Module]) -> Callable[[nn.Module], bool]:
    """A function that tells whether a module is of a kind: a name of `list_kinds()`, or a class with its subclasses.

    "se" is every squeeze-and-excitation that `describe_se` knows, except the tiled one.

    Raises:
        UnknownNameError: no such kind.
        TypeError: `kind` is neither a name nor a class of modules.
    """
    if isinstance(kind, type) and issubclass(kind, nn.Module):
        return lambda module: isinstance(module, kind)
    if not isinstance(kind, str):
        raise TypeError(f"wanted a kind of attention ({', '.join(list_kinds())}) or a class of modules, got {kind!r}")
    if kind not in list_kinds():
        raise unknown_name("kind of attention", kind, list_kinds())
    if kind == CONVOLUTIONS:
        return is_convolution
    if kind == "se":
        return lambda module: describe_se(module) is not None and not _is_one_of(module, _TILED)
    own, others = ATTENTIONS.get(kind), _OTHERS.get(kind, ())
    return lambda module: bool(own and isinstance(module, own)) or _is_one_of(module, others)


def is_convolution(module: nn.Module) -> bool:
    """Whether a module is a 3×3 convolution that attention such as PSA can replace.

    Such a convolution has as many outputs as inputs, and returns a map of ⌈H/stride⌉ × ⌈W/stride⌉.
    """
    return (
        isinstance(module, nn.Conv2d)
        and module.kernel_size == (3, 3)
        and module.in_channels == module.out_channels
        and module.stride[0] == module.stride[1]
        and module.dilation == (1, 1)
        and module.padding in ((1, 1), "same")
    )


def find_attention(model: nn.Module, matches: Callable[[nn.Module], bool]) -> dict[str, nn.Module]:
    """The modules that match, by name, in the network's order; shared ones under each of their names.

    Submodules of a match, and of another attention of this package, are left out.
    """
    found: dict[str, nn.Module] = {}
    owners: set[str] = set()
    for name, module in model.named_modules(remove_duplicate=False):
        if any(owner in owners for owner in _ancestors(name)):
            continue
        if matches(module):
            found[name] = module
        if matches(module) or isinstance(module, Attention):
            owners.add(name)
    return found


def refuse_hooks(name: str, module: nn.Module, change: str) -> None:
    """Raise ValueError if a module has hooks, which another module in its place would not have.

    Args:
        name: the module's name in its network.
        module: the module.
        change: what is done to it, as the message says it.
    """
    for kind in ("forward", "backward"):
        if getattr(module, f"_{kind}_hooks") or getattr(module, f"_{kind}_pre_hooks"):
            raise ValueError(f"{name} has {kind} hooks, which {change} it would lose; remove them first")


def look_alikes(model: nn.Module) -> dict[str, nn.Module]:
    """Modules that look like squeeze-and-excitation by class or attribute name, but are of no known kind."""
    known = find_attention(model, _is_known)
    holders = {owner for name in known for owner in _ancestors(name)}
    found: dict[str, nn.Module] = {}
    for name, module in model.named_modules():
        if name in known or name in holders or isinstance(module, nn.Identity | Attention):
            continue
        if any(owner in known or owner in found for owner in _ancestors(name)):
            continue
        classes = [cls.__name__ for cls in type(module).__mro__]
        if name.rpartition(".")[2] in _SLOTS or any(map(_SE_CLASS.fullmatch, classes)):
            found[name] = module
    return found


def present_kinds(model: nn.Module) -> list[str]:
    """The kinds of attention of which a network has modules."""
    return [kind for kind in list_kinds() if kind != CONVOLUTIONS and find_attention(model, of_kind(kind))]


def attention_inventory(model: nn.Module) -> str:
    """The attention-like classes of a network and their numbers, as text for a message."""
    alike = look_alikes(model)
    counts = Counter(
        type(module).__name__
        for name, module in model.named_modules()
        if name and (_is_known(module) or name in alike or _ATTENTION_CLASS.search(type(module).__name__))
    )
    words = [f"{count} {name}" for name, count in counts.items()]
    inline = Counter(type(module).__name__ for module in model.modules() if _computes_inline(module))
    words += [f"{count} {name} whose own forward computes it" for name, count in inline.items()]
    return ", ".join(words) or "none"


def _computes_inline(module: nn.Module) -> bool:
    """Whether a block computes squeeze-and-excitation in its own `forward`, so that there is no module to replace."""
    return describe_se(module) is None and any(_INLINE.fullmatch(name) for name, _ in module.named_children())


def _is_known(module: nn.Module) -> bool:
    return (
        describe_se(module) is not None
        or any(_is_one_of(module, names) for names in _OTHERS.values())
        or isinstance(module, tuple(ATTENTIONS.values()))
    )


def _is_one_of(module: nn.Module, names: tuple[str, ...]) -> bool:
    return any(f"{cls.__module__}.{cls.__qualname__}" in names for cls in type(module).__mro__)


def _ancestors(name: str) -> Iterator[str]:
    while name:
        name = name.rpartition(".")[0]
        yield name
