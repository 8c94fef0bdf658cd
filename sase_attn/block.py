"""`SASEBlock`: six squeeze and excitation operations wired as the paper's graph.

SASE: A Searching Architecture for Squeeze and Excitation Operations, arXiv 2411.08333; its formula is `attend` below.
Deviations: the authors' release is the default definition (its block adds x, its FC has no sigmoid, its L4 is a sum);
the text's readings are operations and a genotype of their own. Gates start as a constant (see `GATE_INITS`), and are
computed in float32 for half-precision inputs, finite wherever the true value is.
"""

from typing import Any

import torch
from timm.layers import make_divisible
from torch import Tensor, nn

from sase_attn.channel_axes import Axes, ChannelAxes
from sase_attn.genotype import EDGES, Genotype
from sase_attn.kernels import reader
from sase_attn.ops import Excite, create_op, functional
from sase_attn.ops.arguments import known, positive, reduced_channels
from sase_attn.ops.layers import BatchNorm2d, Mixer, draw_as_release
from sase_attn.scaled import Scaled

GATE_INITS = {
    "constant": "the last layers of both output excitations at zero: the block starts as a constant gain",
    "release": "every filter and mixing weight from N(0, 2/fan-out), as torchvision's ResNet and the release draw them",
}
"""The ways to initialise the gates of a `SASEBlock`."""


class SASEBlock(Scaled, ChannelAxes):
    """Multiplies a map by the mean of a channel mask and a spatial mask: y = x·(A_c + A_s)/2 (+ x).

    x is added if the genotype has `residual`, as the released one has. Takes (B, C, H, W) of any floating type and any
    H, W ≥ 1; returns the same shape, type and memory format. Put it after the last norm of a residual branch, before
    the shortcut is added: it is an `attn_layer` for timm.

    Args:
        channels: C.
        genotype: a `Genotype`, the name of a published one, or an inline string.
        rd_ratio: width of FC excitations relative to C.
        rd_channels: that width itself; overrides `rd_ratio`.
        rd_divisor: round that width to a multiple, as timm does; 1 keeps the release's max(1, ⌊C·rd_ratio⌋).
        size: reference (H, W) of operations with weights per position (7×7 where None).
        gate_init: what the gates start from, see `GATE_INITS`.
        act_layer: accepted because hosts such as timm's EfficientNet pass their own activation to every attention.
            It has no effect: the genotype fixes all activations.

    Raises:
        UnknownNameError: the genotype or `gate_init` is unknown; the nearest names are given.
        TypeError: the genotype is neither a `Genotype` nor a string.
        ValueError: another argument is of the wrong type or out of its range; or, when called, the input is not
            (B, channels, H ≥ 1, W ≥ 1) of float16, bfloat16, float32 or float64.
    """

    def __init__(
        self,
        channels: int,
        genotype: str | Genotype = "sase",
        rd_ratio: float = 1 / 16,
        rd_channels: int | None = None,
        rd_divisor: int = 1,
        size: int | tuple[int, int] | None = None,
        gate_init: str = "constant",
        act_layer: object = None,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if isinstance(genotype, str):
            genotype = Genotype.parse(genotype)
        if not isinstance(genotype, Genotype):
            raise TypeError(f"genotype must be a Genotype, a published name or an inline string, got {genotype!r}")
        reduced_channels(channels, rd_ratio, rd_channels)
        if rd_channels is None and positive("rd_divisor", rd_divisor) != 1:
            rd_channels = make_divisible(channels * rd_ratio, rd_divisor, round_limit=0.0)
        if rd_channels is not None:
            rd_ratio = rd_channels / channels
        self.channels = channels
        self.genotype = genotype
        self.residual = float(genotype.residual)
        self.scale = 1.0  # see `sase_attn.attentions.set_gain`

        def op(edge: str) -> nn.Module:
            name = getattr(genotype, edge)
            return create_op(EDGES[edge], name, channels, size=size, rd_ratio=rd_ratio, device=device, dtype=dtype)

        # In the order of the release's state dict.
        self.channel_squeeze = op("channel_squeeze")
        self.channel_excite = op("channel_excite")
        self.channel_gate = op("channel_gate")
        self.spatial_squeeze_gated = op("spatial_squeeze_gated")
        self.spatial_squeeze_input = op("spatial_squeeze_input")
        self.spatial_excite = op("spatial_excite")
        self.mix = Mixer(device=device, dtype=dtype)
        self.norm = BatchNorm2d(1, device=device, dtype=dtype)
        known("gate_init", gate_init, GATE_INITS)
        if gate_init == "release":
            draw_as_release(self)
        self._constant = gate_init == "constant"
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start the gates as a constant if `gate_init` says so; to be called once the layers are drawn."""
        for excite in (self.channel_excite, self.spatial_excite):  # a user's operation may not define it
            if self._constant and isinstance(excite, Excite) and type(excite).zero_gate is not Excite.zero_gate:
                excite.zero_gate()

    def forward(self, x: Tensor) -> Tensor:
        x = functional.check_input(x, self.channels)
        if not torch.jit.is_scripting():
            x = self.read(x)  # from here on x may be a `MapReader`, which stands for the map
        return self.attend(x)

    def attend(self, x: Tensor) -> Tensor:
        """y = x·(A_c + A_s)/2 + x, for a map or the `MapReader` that `read` returns for it."""
        z = self.channel_squeeze(x)  # (B, C, 1, 1)
        gated = x * self.channel_gate(z)  # M·x
        mixed = self.mix(self.spatial_squeeze_gated(gated), self.spatial_squeeze_input(x))
        a_s = self.spatial_excite(torch.relu(self.norm(mixed)))  # (B, 1, H, W)
        a_c = self.channel_excite(z)  # (B, C, 1, 1); here, where Inductor makes the fewest kernels of it
        half = 0.5 * self.scale
        return reader.gated(x, half * a_c + self.residual * self.scale, half * a_s)

    @torch.jit.unused
    def read(self, x: Tensor, **tail: Any) -> Tensor:
        """A `MapReader` of x, with which the block reads the map three times in all; without kernels, x itself.

        Args:
            x: the map.
            tail: for the reader of `tail`: its arguments `shortcut`, `relu`, `norm` and `overwrite`.
        """
        squeezes = self.channel_squeeze, self.spatial_squeeze_gated, self.spatial_squeeze_input
        return reader.read_together(x, *squeezes, **tail)

    @torch.jit.unused
    def tail(
        self,
        x: Tensor,
        shortcut: Tensor,
        relu: bool = True,
        norm: nn.Module | None = None,
        overwrite: bool = False,
    ) -> Tensor:
        """The end of a residual block, ReLU(self(norm(x)) + shortcut), in as few passes as the attention alone takes.

        Args:
            shortcut: a map of the shape and type of x.
            relu: whether to apply the ReLU.
            norm: the layer before the block, if it has not been applied yet. Kernels compute a batch norm in their own
                passes, and then keep no map for the backward pass but x and the result.
            overwrite: the result may be written to the memory of x, where no gradient is recorded.

        Raises:
            ValueError: as the block itself; or the shortcut is of another shape or type than x.
        """
        x = functional.check_input(x, self.channels)
        functional.check_shortcut(x, shortcut)
        x = self.read(x, norm=norm, shortcut=shortcut, relu=relu, overwrite=overwrite)
        y = self.attend(x)
        return y if isinstance(x, reader.MapReader) else reader.finished(y, shortcut, relu)

    def zero_gates(self) -> float:
        """Make the block multiply by a constant, and return it: zero the last layers of both output excitations.

        Mixing weights of two statistics, and some earlier filters, are made non-negative, so that gradients pass the
        ReLUs behind them. With the constant divided out (`preserve_output` of `sase_attn.attach`), a network's output
        is what it was without the block. Every other parameter receives gradients from the second optimiser step on;
        after a norm whose weight starts at zero, from the third.

        Raises:
            TypeError: an output excitation is an operation of the user that does not define `zero_gate()`.
        """
        for module in self.modules():
            if isinstance(module, Mixer):
                module.start("make_alive")
        gain = self.residual
        for edge in ("channel_excite", "spatial_excite"):
            excite = getattr(self, edge)
            if not isinstance(excite, Excite):
                name = type(excite).__name__
                raise TypeError(f"{edge} {name} must derive from sase_attn.ops.Excite to start as a constant")
            gain += 0.5 * excite.zero_gate()
        return gain

    def extra_repr(self) -> str:
        scale = "" if self.scale == 1 else f", scale={self.scale:g}"
        return f"{self.channels}, genotype={str(self.genotype)!r}{scale}"

    def channel_axes(self) -> dict[str, Axes] | None:
        """Empty, because each operation has such a method itself; None if one has not."""
        return {} if all(hasattr(getattr(self, edge), "channel_axes") for edge in EDGES) else None
