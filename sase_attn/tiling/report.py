"""`BufferingReport`: the result of `buffering`, as a table and as JSON."""

import json
from dataclasses import asdict, dataclass

from sase_attn.describe import text_table
from sase_attn.errors import unknown_name
from sase_attn.tiling.tiles import Tile

PRECISIONS = {
    "int4": 4, "int8": 8, "uint8": 8, "float8": 8, "int16": 16, "float16": 16, "bfloat16": 16, "float32": 32,
}  # fmt: skip
"""Bits of an activation, by the name of its type."""


@dataclass(frozen=True)
class BlockBuffer:
    """The activations held while one squeeze-and-excitation module waits for its mean.

    Attributes:
        name: name of the module.
        height, width: height and width of its map.
        gated: channels of its map.
        shortcut: channels of the maps that bypass the module unchanged, to be added later; 0 if there is no such
            shortcut, or a projection computes it.
        projected: channels of the shortcuts that a projection or another branch computes.
        tile: rows and columns; None is the whole extent, and (None, None) is untiled squeeze-and-excitation.
        se: activations held by untiled squeeze-and-excitation.
        tiled: activations held with this tile.
    """

    name: str
    height: int
    width: int
    gated: int
    shortcut: int
    projected: int
    tile: Tile
    se: int
    tiled: int


@dataclass(frozen=True)
class BufferingReport:
    """The activations held for all squeeze-and-excitation modules of a network. `str()` returns a table."""

    network: str
    size: tuple[int, int]
    precision: str
    projections: bool
    blocks: tuple[BlockBuffer, ...]

    @property
    def se(self) -> int:
        """Activations that untiled squeeze-and-excitation holds, over all blocks."""
        return sum(block.se for block in self.blocks)

    @property
    def tiled(self) -> int:
        """Activations held with the tiles, over all blocks."""
        return sum(block.tiled for block in self.blocks)

    @property
    def saving(self) -> float:
        """The percentage of the activations that tiling saves."""
        return 100 * (1 - self.tiled / self.se)

    def size_in_bytes(self, activations: int, precision: str | None = None) -> int:
        """The size of a number of activations, at the report's precision or another.

        Raises:
            UnknownNameError: the precision is not in `PRECISIONS`.
        """
        return -(-activations * bits(precision or self.precision) // 8)

    def to_dict(self) -> dict[str, object]:
        """Everything, totals and bytes included, in types that JSON knows."""
        return asdict(self) | {
            "se": self.se,
            "tiled": self.tiled,
            "saving_percent": self.saving,
            "se_bytes": self.size_in_bytes(self.se),
            "tiled_bytes": self.size_in_bytes(self.tiled),
        }

    def to_json(self) -> str:
        """`to_dict` as JSON text."""
        return json.dumps(self.to_dict(), indent=2)

    def __str__(self) -> str:
        head = ("block", "map", "gated", "shortcut", "projected", "tile", "SE", "tiled")
        rows: list[tuple[str, ...]] = [head]
        for block in self.blocks:
            channels = [f"{number:,}" for number in (block.gated, block.shortcut, block.projected)]
            shown = (
                f"{block.height}×{block.width}",
                *channels,
                _words(block.tile),
                f"{block.se:,}",
                f"{block.tiled:,}",
            )
            rows.append((block.name, *shown))
        rows.append((f"{len(self.blocks)} blocks", *[""] * 5, f"{self.se:,}", f"{self.tiled:,}"))
        before, after = (self.size_in_bytes(number) for number in (self.se, self.tiled))
        counted = "shortcuts counted" + (
            ", projected ones too" if self.projections else " where they are not projected"
        )
        return "\n".join(
            [
                f"{self.network} at {self.size[0]}×{self.size[1]}: activations held while squeeze-and-excitation waits",
                f"rows held × width × (gated + shortcut channels), {counted}",
                "",
                text_table(rows, right=(1, 2, 3, 4, 5, 6, 7)),
                "",
                f"SE {self.se / 1e6:.3f}M → tiled {self.tiled / 1e6:.3f}M activations ({-self.saving:+.1f} %); "
                f"{before:,} → {after:,} bytes in {self.precision}",
            ]
        )


def _words(tile: Tile) -> str:
    rows, columns = tile
    if rows is None:
        return "whole" if columns is None else f"{columns} columns"
    return f"{rows} rows" if columns is None else f"{rows}×{columns}"


def bits(precision: str) -> int:
    """Bits of an activation. Raises UnknownNameError for a precision that is not in `PRECISIONS`."""
    if precision not in PRECISIONS:
        raise unknown_name("precision", precision, PRECISIONS)
    return PRECISIONS[precision]
