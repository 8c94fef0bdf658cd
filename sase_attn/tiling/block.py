"""Tiled squeeze-and-excite: a gate per tile instead of one per map (arXiv 2107.02145).

A chip that streams a map row by row must hold all of it until SE's mean is known. The mean of a tile, by the paper of
seven rows, is known after seven rows; the excitation is SE's own, shared by all tiles, its weights used as they are.

Definition: means over non-overlapping tiles, the last ones smaller where the tile does not divide the map and averaged
over their real elements; the gate of a tile holds for all its elements (`repeat_interleave` and crop; interpolation
would move the borders). A tile that covers the map gives SE, bit by bit. Nothing depends on the resolution.
"""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sase_attn import statistics
from sase_attn.attentions.attention import Attention
from sase_attn.attentions.registry import register_attention
from sase_attn.attentions.se import SE
from sase_attn.ops import functional
from sase_attn.ops.op import zero_

Tile = tuple[int | None, int | None]
"""Rows and columns of a tile; None is the map's whole extent."""


class ExcitationOf(Protocol):
    """What `TiledSE.from_squeeze_excite` needs to know of a squeeze-and-excite module."""

    @property
    def channels(self) -> int:
        """C of the map it gates."""

    @property
    def layers(self) -> Mapping[str, nn.Module]:
        """The layers between the mean and the gate, by their names in the module, in the order of application."""

    @property
    def add_maxpool(self) -> bool:
        """Whether it squeezes by half the mean plus half the maximum (an option of timm's)."""


class TiledSE(Attention, nn.Sequential):
    """y = x·gate, the gate of a tile being excitation(mean of the tile); the excitation is SE's.

    Parameters: `2*C*h + h + C`, SE's, under SE's names; MACs: `2*C*h*tiles`; h = C/16. Goes where SE goes.

    Takes (B, C, H, W) of any floating type, a tile larger than the map too; half precision is averaged in float32.
    Right in ONNX at other sizes than the exported one: the means are sums divided by counts, not average pooling with
    `ceil_mode`, which onnxruntime divides by the whole window below opset 19.

    Deviation: none from the paper's Algorithm 1. Its tile is (7, whole width), the default.

    Args:
        channels: C.
        tile: rows and columns of a tile; None is the whole extent, so that (None, None) is SE.
        rd_ratio: width of the hidden layer relative to C.
        rd_channels: that width itself; overrides `rd_ratio`.
        rd_divisor: round that width to a multiple, as timm does with 8.
        bias: whether both layers have biases.
        act_layer: activation of the hidden layer (ReLU where None).
        gate_layer: the gate.

    Raises:
        ValueError: `channels` or a side of the tile is not positive; or, when called, the input is not
            (B, channels, H, W).
    """

    tile: Tile
    channels: int
    add_maxpool: bool

    def __init__(
        self,
        channels: int,
        tile: Tile = (7, None),
        rd_ratio: float = 1 / 16,
        rd_channels: int | None = None,
        rd_divisor: int = 1,
        bias: bool = True,
        act_layer: type[nn.Module] | None = None,
        gate_layer: str | type[nn.Module] = "sigmoid",
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        place: dict[str, Any] = {"device": device, "dtype": dtype}
        se = SE(channels, rd_ratio, rd_channels, rd_divisor, bias, act_layer, gate_layer, **place)
        super().__init__(OrderedDict(se.named_children()))
        self.tile = checked_tile(tile)
        self.channels = channels
        self.add_maxpool = False

    @classmethod
    def from_squeeze_excite(cls, se: ExcitationOf, tile: Tile = (7, None)) -> "TiledSE":
        """The tiled twin of an existing module: its own layers, not copies, so that weights and names stay."""
        tiled = cls.__new__(cls)
        nn.Sequential.__init__(tiled, OrderedDict(se.layers))
        tiled.tile = checked_tile(tile)
        tiled.channels = se.channels
        tiled.add_maxpool = se.add_maxpool
        return tiled

    def forward(self, x: Tensor) -> Tensor:
        x = functional.check_input(x, self.channels)
        rows, columns = self.tile
        gate = tiled_mean(x, rows, columns)
        if self.add_maxpool:
            gate = 0.5 * gate + 0.5 * tiled_maximum(x, rows, columns)
        for layer in self:
            gate = layer(gate)
        return x * over_tiles(gate, x, rows, columns)

    def zero_gates(self) -> float:
        layers = list(self.children())
        weighted = [i for i, layer in enumerate(layers) if next(layer.parameters(), None) is not None]
        if not weighted:
            raise TypeError("TiledSE cannot start as a constant: its excitation has no weights")
        zero_(layers[weighted[-1]])
        gate = torch.zeros(1)
        for layer in layers[weighted[-1] + 1 :]:
            gate = layer(gate)
        return float(gate)

    def extra_repr(self) -> str:
        rows, columns = ("whole" if side is None else side for side in self.tile)
        return f"{self.channels}, tile={rows} rows x {columns} columns" + ", add_maxpool" * self.add_maxpool


def checked_tile(tile: Tile) -> Tile:
    """`tile` as a pair, if each side is None or a positive whole number; otherwise ValueError."""
    sides = tuple(tile) if isinstance(tile, tuple | list) else (tile,)
    whole = [side is None or (isinstance(side, int) and not isinstance(side, bool) and side > 0) for side in sides]
    if len(sides) != 2 or not all(whole):
        raise ValueError(f"a tile is (rows, columns), each at least 1 or None for the whole extent, got {tile!r}")
    return sides[0], sides[1]


@torch.fx.wrap
def tiled_mean(x: Tensor, rows: int | None, columns: int | None) -> Tensor:
    """Means over tiles, (B, C, H, W) → (B, C, ⌈H/rows⌉, ⌈W/columns⌉); None is the whole extent. Type as `x`.

    Partial tiles at the lower and right border are averaged over their real elements. A tile that covers the map gives
    `x.mean((2, 3), keepdim=True)` itself.
    """
    rows, columns = _within(rows, x.shape[2]), _within(columns, x.shape[3])
    if rows is None and columns is None:
        return x.mean((2, 3), keepdim=True)
    wide = statistics.upcast(x)
    ones = wide.new_ones([1, 1, x.shape[2], x.shape[3]])
    sums = _in_tiles(_in_tiles(wide, 3, columns, 0.0).sum(4), 2, rows, 0.0).sum(3)
    counts = _in_tiles(_in_tiles(ones, 3, columns, 0.0).sum(4), 2, rows, 0.0).sum(3)
    return (sums / counts.clamp(min=1.0)).to(x.dtype)


@torch.fx.wrap
def tiled_maximum(x: Tensor, rows: int | None, columns: int | None) -> Tensor:
    """Largest element of each tile, in the shape of `tiled_mean`."""
    rows, columns = _within(rows, x.shape[2]), _within(columns, x.shape[3])
    if rows is None and columns is None:
        return x.amax((2, 3), keepdim=True)
    lowest = -float("inf")
    largest = _in_tiles(_in_tiles(x, 3, columns, lowest).amax(4), 2, rows, lowest).amax(3)
    return largest.masked_fill(largest == lowest, 0.0)  # of the empty tiles of an export


@torch.fx.wrap
def over_tiles(gate: Tensor, x: Tensor, rows: int | None, columns: int | None) -> Tensor:
    """One value a tile → one value an element of `x`; an axis with a single tile stays of length 1, to broadcast."""
    rows, columns = _within(rows, x.shape[2]), _within(columns, x.shape[3])
    if rows is not None:
        gate = _repeated(gate, 2, rows, x.shape[2])
    if columns is not None:
        gate = _repeated(gate, 3, columns, x.shape[3])
    return gate


def _repeated(gate: Tensor, dim: int, side: int, size: int) -> Tensor:
    """Every value `side` times along `dim`, cropped to `size`."""
    if _is_known(size):
        return gate.repeat_interleave(side, dim).narrow(dim, 0, size)
    # The same by indices: an export cannot tell that what is cropped is long enough.
    return gate.index_select(dim, torch.arange(size, device=gate.device) // side)


def _in_tiles(x: Tensor, dim: int, side: int | None, fill: float) -> Tensor:
    """Axis `dim` (2 or 3) as two, (tiles, elements of a tile), what is missing of the last tile filled up."""
    if side is None:
        return x.unsqueeze(dim)
    size = x.shape[dim]
    if _is_known(size):
        missing = -size % side
        if missing > 0:
            x = F.pad(x, [0, missing] if dim == 3 else [0, 0, 0, missing], value=fill)
        return x.unflatten(dim, [-1, side])
    # An export divides no open size, and takes one that may be 1 for more: by indices, up to two tiles empty.
    starts = torch.arange(size // side + 2, device=x.device) * side
    index = starts[:, None] + torch.arange(side, device=x.device)
    missed = index >= size
    index = index.clamp(max=size - 1)
    if dim == 3:
        return x[:, :, :, index].masked_fill(missed, fill)
    return x[:, :, index].masked_fill(missed[:, :, None], fill)


def _within(side: int | None, size: int) -> int | None:
    """A tile's side, or None where it covers the map; sizes that an export leaves open keep it."""
    if side is None or (_is_known(size) and side >= size):
        return None
    return side


def _is_known(size: int) -> bool:
    """Whether a branch may look at a size: not where the branch would be recorded for all others."""
    if torch.jit.is_scripting():
        return True
    if torch.jit.is_tracing():
        return False
    if torch.compiler.is_exporting():
        return isinstance(size, int) and not torch.compiler.is_dynamo_compiling()
    return True


register_attention("tiled_se", TiledSE)
