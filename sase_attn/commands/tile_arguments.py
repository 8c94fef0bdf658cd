"""Argparse types of `sase-attn tile`: sides of tiles, overrides by module name, sizes of images."""

import argparse
from typing import Any

from sase_attn.commands.arguments import whole
from sase_attn.settings import LARGEST_SIZE, MANY


def tile_side(text: str) -> int | str:
    """Parse a side of a tile: a number of at least 1, or "full"."""
    if text == "full":
        return text
    if not text.isdecimal() or not text.strip("0"):
        raise argparse.ArgumentTypeError(f'expected a number of at least 1, or "full", got {text!r}')
    return whole(1, MANY)(text)


def tile_override(text: str) -> tuple[str, int | str | list[int | None]]:
    """Parse an override: `pattern=rows`, `pattern=rowsxcolumns` or `pattern=full`."""
    pattern, separator, value = text.rpartition("=")
    sides = [tile_side(side) for side in value.split("x")] if separator and pattern else []
    if not 1 <= len(sides) <= 2:
        raise argparse.ArgumentTypeError(f"expected pattern=rows, pattern=4x7 or pattern=full, got {text!r}")
    if len(sides) == 1:
        return pattern, sides[0]
    return pattern, [None if side == "full" else int(side) for side in sides]


def image_size(text: str) -> tuple[int, int]:
    """Parse the size of images: `224`, or height and width as `320,480`."""
    sides = text.split(",")
    if len(sides) > 2 or not all(side.isdecimal() and side.strip("0") for side in sides):
        raise argparse.ArgumentTypeError(f"expected a size as 224 or 320,480, got {text!r}")
    height, width = whole(1, LARGEST_SIZE)(sides[0]), whole(1, LARGEST_SIZE)(sides[-1])
    return height, width


def tile_arguments(chosen: dict[str, Any]) -> dict[str, Any]:
    """Arguments of `sase_attn.tile` and of the model `attached`, from the flags."""
    sides = {name: None if chosen[name] == "full" else chosen[name] for name in ("rows", "columns") if name in chosen}
    options: dict[str, Any] = {"rows": None if sides.get("columns") else 7} | sides
    if "count" in chosen:
        options["count"] = chosen["count"]
    if "override" in chosen:
        options["overrides"] = dict(chosen["override"])
    return options
