"""`variants`: the ways in which the block, the tail of a residual block, and a network are measured.

Variants of the same `family` have the same weights and compute the same. Gates are drawn as in the release, but the
last layer of the FC is scaled to a tenth, and to zero in whole networks: 16 unbounded gates in a row overflow in
float32.
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import timm
import torch
from speed_release import as_release
from timm.layers import EcaModule, SEModule
from timm.layers.cbam import CbamModule
from torch import Tensor, nn

from sase_attn import SASEBlock, fuse, kernels
from sase_attn.fusion import tails
from sase_attn.ops.layers import Mixer

Call = Callable[..., Tensor]
ATTENTIONS: dict[str, Callable[..., nn.Module]] = {
    "SASE": lambda channels, **where: searched(channels, **where),
    "SE": SEModule,
    "ECA": EcaModule,
    "CBAM": CbamModule,
}
NETWORK: dict[str, Any] = {"model_name": "resnet50", "zero_init_last": False}
"""`zero_init_last` is off, so that no attention of an untrained network sees a map of zeros."""
COMPILED_NETWORKS = ("plain", "SASE", "SE")
"""Families that are compiled and fused as whole networks, which takes up to a minute each."""


@dataclass(frozen=True)
class Variant:
    """One way to compute a family: `call` is called with the inputs, `module` holds the parameters."""

    label: str
    family: str
    module: nn.Module
    call: Call
    compiled: bool = False
    fused: bool = False


class Tail(nn.Module):
    """The end of a residual block of timm's ResNets: norm, attention, shortcut, ReLU."""

    def __init__(self, channels: int, attention: nn.Module | None) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.attention = attention
        nn.init.uniform_(self.norm.weight, 0.5, 1.5)
        nn.init.normal_(self.norm.bias)

    def forward(self, x: Tensor, shortcut: Tensor) -> Tensor:
        x = self.norm(x)
        if self.attention is not None:
            x = self.attention(x)
        x += shortcut
        return torch.relu_(x)


class FusedTail(nn.Module):
    """The same as one fused unit. (At inference `fuse` folds the norm instead, which needs a convolution.)"""

    def __init__(self, tail: Tail) -> None:
        super().__init__()
        self.norm, self.attention = tail.norm, tail.attention

    def forward(self, x: Tensor, shortcut: Tensor) -> Tensor:
        assert self.attention is not None
        return tails.tail(self.attention, x, shortcut, relu=True, norm=self.norm)


def searched(channels: int, **where: Any) -> SASEBlock:
    """A SASE block with gates drawn as above, and no mixer that the ReLU turns off."""
    block = SASEBlock(channels, gate_init="release", **where)
    with torch.no_grad():
        block.get_parameter("channel_excite.fc2.weight").mul_(0.1)
    for module in block.modules():
        if isinstance(module, Mixer):
            module.make_alive()
    return block


def families(level: str, channels: int) -> Iterator[tuple[str, nn.Module]]:
    """The networks of a level ("block", "tail" or "model") by family."""
    for name, attention in [("plain", None), *ATTENTIONS.items()]:
        if level == "model":
            arguments = {} if attention is None else {"block_args": {"attn_layer": attention}}
            network = timm.create_model(**NETWORK, **arguments)
            for key, parameter in network.named_parameters():
                if key.endswith("channel_excite.fc2.weight"):
                    nn.init.zeros_(parameter)
            yield name, network
        elif level == "tail":
            yield name, Tail(channels, attention and attention(channels))
        elif attention:
            yield name, attention(channels)


def variants(level: str, channels: int, device: str, prepare: Callable[[nn.Module], nn.Module]) -> list[Variant]:
    """All variants of a level; `prepare` brings a module to its device, type, layout and mode."""
    torch.manual_seed(0)
    fast = "triton" if device == "cuda" else "auto"
    found: list[Variant] = []
    for family, network in families(level, channels):
        network = prepare(network)
        eager = {family: (copy.deepcopy(network), "torch")}
        if family == "SASE":
            eager = {  # the definition is first, as the others are compared with it
                "SASE, definition": (copy.deepcopy(network), "torch"),
                "SASE": (copy.deepcopy(network), fast),
                "SASE, release's formula": (prepare(as_release(copy.deepcopy(network))), "torch"),
            }
        found += [Variant(label, family, module, under(way, module)) for label, (module, way) in eager.items()]
        if level != "model" or family in COMPILED_NETWORKS:
            module = copy.deepcopy(network)
            found.append(Variant(f"{family}, compiled", family, module, torch.compile(module, dynamic=False), True))
        if isinstance(network, Tail) and isinstance(network.attention, SASEBlock):
            found += _both(family, FusedTail(copy.deepcopy(network)), fast)
        if level == "model" and family in COMPILED_NETWORKS and not network.training:
            found += _both(family, fuse(copy.deepcopy(network)), fast)
        twin: nn.Module | None = None
        if isinstance(network, Tail) and family == "SE":
            twin = FusedTail(copy.deepcopy(network))
        if level == "model" and family in ("SASE", "SE") and network.training:
            twin = fuse(copy.deepcopy(network), training=True)
        if twin is not None:
            found.append(Variant(f"{family}, fused", family, twin, under(fast, twin), fused=True))
    return found


def _both(family: str, module: nn.Module, fast: str) -> Iterator[Variant]:
    """The variants of a fused module, eager and compiled."""
    yield Variant(f"{family}, fused", family, module, under(fast, module), fused=True)
    twin = copy.deepcopy(module)
    compiled = torch.compile(twin, dynamic=False)
    yield Variant(f"{family}, fused, compiled", family, twin, compiled, compiled=True, fused=True)


def under(backend: str, module: nn.Module) -> Call:
    """A call of the module with a backend of `sase_attn.kernels`."""

    def call(*inputs: Tensor) -> Tensor:
        with kernels.backend(backend):
            return module(*inputs)

    return call


def block_maps(network: nn.Module, image: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Shapes of the outputs of a ResNet's residual blocks for images (B, 3, H, W)."""
    shapes: list[tuple[int, ...]] = []
    twin = copy.deepcopy(network).to("meta").eval()
    for number in range(1, 5):
        for block in twin.get_submodule(f"layer{number}").children():
            block.register_forward_hook(lambda module, inputs, output: shapes.append(tuple(output.shape)))
    with torch.no_grad():
        twin(torch.empty(image, device="meta", dtype=next(twin.parameters()).dtype))
    return shapes
