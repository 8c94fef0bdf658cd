"""Tiled squeeze-and-excite: a gate per tile instead of one per map (arXiv 2107.02145).

A chip that streams a map row by row must hold all of it until SE's mean is known. The mean of a tile, by the paper of
seven rows, is known after seven rows; the excitation is SE's own, shared by all tiles, its weights used as they are.

Definition: means over non-overlapping tiles, the last ones smaller where the tile does not divide the map and averaged
over their real elements; the gate of a tile holds for all its elements (`repeat_interleave` and crop; interpolation
would move the borders). A tile that covers the map gives SE, bit by bit. Nothing depends on the resolution.
"""

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from sase_attn.attention import Attention, scale_words
from sase_attn.attentions.registry import register_attention
from sase_attn.attentions.se import SE
from sase_attn.channel_axes import Axes
from sase_attn.ops.op import zero_
from sase_attn.tiling import tiles
from sase_attn.tiling.tiles import Tile, checked_tile


class ExcitationOf(Protocol):
    """The attributes of a squeeze-and-excite module that `TiledSE.from_squeeze_excite` needs."""

    @property
    def channels(self) -> int:
        """C, the channels of the map that the module gates."""

    @property
    def layers(self) -> Mapping[str, nn.Module]:
        """The layers between the mean and the gate, by their names in the module, in the order of application."""

    @property
    def add_maxpool(self) -> bool:
        """Whether the squeeze is half the mean plus half the maximum (an option of timm)."""


class TiledSE(Attention, nn.ModuleDict):
    """y = x·gate, where the gate of a tile is excitation(mean of the tile); the excitation is SE's.

    Parameters: `2*C*h + h + C`, SE's, under SE's names; MACs: `2*C*h*tiles`; h = C/16. Goes where SE goes.

    It accepts (B, C, H, W) of any floating type, also with a tile larger than the map; half precision is averaged in
    float32. Exported to ONNX, it is right at other sizes than the exported one too: means are sums divided by counts,
    not average pooling with `ceil_mode`, which onnxruntime divides by the whole window below opset 19.

    Deviation: none from the paper's Algorithm 1. Its tile is (7, whole width), the default.

    Args:
        channels: C.
        tile: rows and columns of a tile; None is the whole extent, so that (None, None) is SE.
        rd_ratio: width of the hidden layer relative to C.
        rd_channels: that width itself; overrides `rd_ratio`.
        rd_divisor: round that width to a multiple, as timm does with 8.
        bias: whether both layers have biases.
        act_layer: activation of the hidden layer (ReLU where None).
        gate_layer: activation of the output, a class or a name that timm knows.

    Raises:
        ValueError: an argument is of the wrong type or out of its range; or, when called, the input is not
            (B, channels, H ≥ 1, W ≥ 1) of float16, bfloat16, float32 or float64.
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
        super().__init__(dict(se.named_children()))
        self.tile = checked_tile(tile)
        self.channels = channels
        self.add_maxpool = False

    @classmethod
    def from_squeeze_excite(cls, se: ExcitationOf, tile: Tile = (7, None)) -> "TiledSE":
        """Make tiled squeeze-and-excite from an existing module; it uses that module's layers, under their names.

        Args:
            se: the module's parts, as `sase_attn.insert.describe_se` returns them.
            tile: rows and columns of a tile; None is the whole extent.

        Raises:
            ValueError: a side is not positive.
        """
        tiled = cls.__new__(cls)
        nn.ModuleDict.__init__(tiled, se.layers)
        tiled.tile = checked_tile(tile)
        tiled.channels, tiled.scale = se.channels, 1.0
        tiled.add_maxpool = se.add_maxpool
        return tiled

    def attend(self, x: Tensor) -> Tensor:
        rows, columns = self.tile
        gate = tiles.tiled_mean(x, rows, columns)
        if self.add_maxpool:
            gate = 0.5 * gate + 0.5 * tiles.tiled_maximum(x, rows, columns)
        for layer in self.values():
            gate = layer(gate)
        return x * tiles.over_tiles(gate, x, rows, columns)

    def zero_gates(self) -> float:
        layers = list(self.children())
        weighted = [i for i, layer in enumerate(layers) if next(layer.parameters(), None) is not None]
        if not weighted:
            raise TypeError("TiledSE cannot start as a constant: its excitation has no weights")
        zero_(layers[weighted[-1]])
        gate = torch.zeros(1, device="cpu")
        for layer in layers[weighted[-1] + 1 :]:
            gate = layer(gate)
        return float(gate)

    def extra_repr(self) -> str:
        rows, columns = ("whole" if side is None else side for side in self.tile)
        maximum = ", add_maxpool" * self.add_maxpool
        return f"{self.channels}, tile={rows} rows x {columns} columns{maximum}{scale_words(self.scale)}"

    def channel_axes(self) -> dict[str, Axes]:
        weighted = [(name, layer) for name, layer in self.named_modules() if layer._parameters]
        wide = [index for index, (_, layer) in enumerate(weighted) if next(layer.parameters()).ndim > 1]
        if not wide:
            return {}
        axes: dict[str, Axes] = {name: 0 for name, _ in weighted[wide[-1] :]}
        first, last = (f"{weighted[index][0]}.weight" for index in (wide[0], wide[-1]))
        return axes | ({first: (0, 1)} if first == last else {first: 1})


register_attention("tiled_se", TiledSE)
