"""`tile`: convert a network to tiled squeeze-and-excite (arXiv 2107.02145) without retraining."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import nn

from sase_attn.insert.gain import own_scale
from sase_attn.insert.kinds import attention_inventory, find_attention, look_alikes, of_kind, refuse_hooks
from sase_attn.insert.meta_forward import in_execution_order
from sase_attn.insert.squeeze_excite import describe_se
from sase_attn.modules import matches, matching
from sase_attn.tiling.block import TiledSE
from sase_attn.tiling.tiles import Tile, checked_tile

Override = int | tuple[int | None, int | None] | Literal["full"] | None
"""A tile's height, its (rows, columns), or None or "full": leave the module as it is."""


@dataclass(frozen=True)
class Tiling:
    """One module that `tile` converted: its name, its former class, its channels, and rows and columns of its tiles."""

    name: str
    old: str
    channels: int
    tile: Tile


def tile(
    model: nn.Module,
    rows: int | None = 7,
    columns: int | None = None,
    *,
    count: int | None = None,
    overrides: Mapping[str, Override] | None = None,
    dry_run: bool = False,
) -> list[Tiling]:
    """Convert the squeeze-and-excitation modules of a network to `TiledSE`, in place.

    The new modules use the layers of the old ones: weights are the same tensors under the same keys of the state dict.
    If a module is used in several places, its weights stay shared; it stays one module where its tiles are the same. A
    tile that covers a module's map changes nothing. The fewer rows, the less a chip has to hold (see `buffering`).

    Args:
        model: any network, for example of timm or torchvision; see `register_se` for classes of your own.
        rows: height of the tiles; None is the whole height.
        columns: width of the tiles; None is the whole width. If both are None, only `overrides` are tiled.
        count: tile only this many modules, the first ones that a forward pass reaches. Early modules have the largest
            maps.
        overrides: tiles by patterns of module names, matched dot by dot, whatever `count` says: a height, a pair (rows,
            columns), or None or "full" to leave the module as it is. The last pattern that matches applies.
        dry_run: report what would be converted, and change nothing.

    Returns:
        The modules that were converted, in the order in which a forward pass reaches them (without `count`, in the
        order of registration if a trial pass fails). Modules that are already tiled are left alone.

    Warns:
        UserWarning: modules that look like squeeze-and-excitation but are of unknown class are left as they are.

    Raises:
        ValueError: there is nothing to convert (the network's attention is named), a side or the count is not
            positive, a module has hooks that would be lost, or the order is needed and unknown. The
            network is then untouched.
        UnknownNameError: a pattern matches no squeeze-and-excitation module; the nearest names are given.
    """
    default = checked_tile((rows, columns))
    special = {pattern: _tile_of(value) for pattern, value in (overrides or {}).items()}
    if count is not None and (not isinstance(count, int) or isinstance(count, bool) or count < 1):
        raise ValueError(f"count must be at least 1, or None for all, got {count!r}")
    found = find_attention(model, of_kind("se"))
    if not found:
        raise ValueError(
            "nothing to tile: wanted squeeze-and-excitation modules, got a model with attention-like modules: "
            f"{attention_inventory(model)}"
        )
    if "" in found:
        raise ValueError(f"the model itself is a {type(model).__name__}; use TiledSE.from_squeeze_excite")
    matching(found, special, kind="squeeze-and-excitation pattern")  # raises for an unknown one before any change
    planned: dict[str, Tile] = {}
    for index, name in enumerate(_ordered(model, list(found), needed=count is not None)):
        by_pattern = [chosen for pattern, chosen in special.items() if matches(name, pattern)]
        chosen = by_pattern[-1] if by_pattern else default if count is None or index < count else (None, None)
        if chosen != (None, None):
            planned[name] = chosen
    if not planned:
        raise ValueError("nothing to tile: every module would keep the whole map; pass rows or columns")
    report = []
    converted: dict[tuple[int, Tile], TiledSE] = {}
    for name, chosen in planned.items():
        module = found[name]
        description = describe_se(module)
        assert description is not None
        refuse_hooks(name, module, "tiling")
        key = id(module), chosen
        if key not in converted:
            converted[key] = TiledSE.from_squeeze_excite(description, chosen)
            converted[key].training = module.training
            converted[key].scale = own_scale(module)
        report.append(Tiling(name, type(module).__name__, description.channels, chosen))
    if unknown := look_alikes(model):
        listed = ", ".join(f"{name} ({type(module).__name__})" for name, module in list(unknown.items())[:8])
        warnings.warn(
            f"left as they are, being of no known class (see sase_attn.insert.register_se): {listed}", stacklevel=2
        )
    if not dry_run:
        for name, chosen in planned.items():
            model.set_submodule(name, converted[id(found[name]), chosen])
    return report


def _tile_of(value: Override) -> Tile:
    if value is None or value == "full":
        return None, None
    return checked_tile((value, None) if isinstance(value, int) else value)


def _ordered(model: nn.Module, names: list[str], needed: bool) -> list[str]:
    try:
        return in_execution_order(model, names)
    except ValueError as error:
        if needed:
            raise ValueError(f"cannot tell which modules are the first: {error}") from error
        return names
