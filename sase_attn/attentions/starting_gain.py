"""The factor by which an attention multiplies its map before it has learned anything, and how to divide it out.

A network with gates that start at a half trains as if with smaller steps; with gates that start above 1, as if with
larger steps. `set_gain(attention, "unit")` multiplies the result by a constant, so that the attention starts as if it
were not there. The constant is a plain number in the formula, and no tensor.
"""

import copy
import math
from collections.abc import Callable

import torch
from torch import nn

from sase_attn.attention import Attention
from sase_attn.block import SASEBlock

PUBLISHED, UNIT = "published", "unit"
GAINS = {
    "SE": 0.5,
    "TiledSE": 0.5,
    "ECA": 0.5,
    "CBAM": 0.25,
    "BAM": 1.5,
    "SRM": 0.5,
    "GSoP": 0.5,
    "GatedChannelTransform": 1.0,
    "MCAE": 0.45,
    "MCAS": 0.5,
    "EAN": 0.5,
    "GC": 1.0,
    "ScSE": 0.5,
    "GLAM": 1.415,
    "GEThetaMinus": 0.5,
    "GETheta": 0.5,
    "GEThetaPlus": 0.5,
    "DoubleAttention": 1.0,
}
"""Starting gain by class, on standardised maps; for gains that depend on arguments, see `starting_gain`."""
VARYING = ("ECA", "GLAM", "ScSE", "MCAE", "MCAS", "GEThetaMinus")
"""Classes whose gain differs by more than 5 % on maps after a ReLU, or from one draw of weights to another."""
WITHOUT = {
    "AutoLA": "it adds paths of convolutions to its input",
    "PSA": "it takes the place of a convolution",
    "SpatiallyAdaptiveSE": "it takes the place of a convolution, and the norm behind takes a factor away",
    "LiteralSpatiallyAdaptiveSE": "it takes the place of a convolution, and the norm behind takes a factor away",
    "AttDARTS": "a mixture has no common one",
}
"""Classes that have no starting gain, with the reason."""


def starting_gain(attention: nn.Module) -> float:
    """The factor by which an attention multiplies a map of mean 0 and variance 1 before it has learned anything.

    It is the projection of the output on the map. For a `SASEBlock` it is the constant that its gates start from, by
    its genotype; for the Gaussian GCT it follows from the width, for Att-DARTS from the attention chosen.

    Raises:
        ValueError: the attention has none, or is not of this package, for which there is `measure_gain`.
    """
    if isinstance(attention, SASEBlock):
        return _of_block(attention)
    kind = _own_class(attention)
    if kind == "Constant":
        return float(attention.value)  # type: ignore[arg-type]
    if kind == "GCTGaussian":
        width = 2.0 if attention.theta is None else 2.5
        return 1 / math.sqrt(1 + 1 / width**2)
    if kind == "AttDARTS" and attention.alpha is None:
        chosen = attention.get_submodule("attentions.0")
        return 1.0 if isinstance(chosen, nn.Identity) else starting_gain(chosen)
    if kind in WITHOUT:
        raise ValueError(f"{kind} has no starting gain, because {WITHOUT[kind]}; use gain {PUBLISHED!r}")
    if kind not in GAINS:
        raise ValueError(
            f"the gain that {type(attention).__name__} starts with is not known; pass gain=measure_gain(...), a number"
        )
    return GAINS[kind]


def _own_class(attention: nn.Module) -> str:
    """The name of the class of this package that an attention has, or is derived from."""
    classes = [cls for cls in type(attention).__mro__ if cls.__module__.startswith("sase_attn.")]
    return next((cls.__name__ for cls in classes if cls is not Attention), "")


@torch.no_grad()
def measure_gain(build: Callable[[int], nn.Module], channels: int = 64, *, draws: int = 8, size: int = 14) -> float:
    """The starting gain of an attention of your own, on maps of mean 0 and variance 1, as a mean over draws.

    Args:
        build: makes the attention from its channels. The attention must keep the shape of a map.
        channels: C of the maps.
        draws: number of draws of initial weights, each from its own seed; torch's generator is left as it was.
        size: H and W of the maps.

    Raises:
        ValueError: the output has another shape, is not finite, or is zero.
    """
    total = 0.0
    with torch.random.fork_rng(devices=[]):
        for seed in range(draws):
            torch.manual_seed(seed)
            attention = build(channels).train()
            x = torch.randn(16, channels, size, size)
            y = attention(x)
            if y.shape != x.shape:
                raise ValueError(f"wanted maps of shape {tuple(x.shape)} from the attention, got {tuple(y.shape)}")
            total += ((y * x).sum() / (x * x).sum()).item()
    gain = total / draws
    if not math.isfinite(gain) or abs(gain) < 1e-3:
        raise ValueError(f"wanted an attention that starts with a gain, got {gain:.3g}")
    return gain


def set_gain(attention: nn.Module, gain: str | float) -> nn.Module:
    """Divide a starting gain out of an attention's result, in place; return the attention.

    Args:
        attention: one of this package, or your own that derives from `Attention` and computes in `attend`.
        gain: "published" for the attention of the paper, "unit" to divide out what `starting_gain` returns, or a number
            to divide out.

    Raises:
        ValueError: no such gain; or "unit" for an attention whose gain is not known, see `starting_gain`.
        TypeError: the attention has no `scale`.
    """
    value = gain_of(attention, gain)
    if value != 1 and not can_scale(attention):
        raise TypeError(
            f"{type(attention).__name__} cannot start with another gain: derive it from sase_attn.attentions.Attention "
            "and compute its formula in attend(x)"
        )
    if value != 1:
        attention.scale = 1 / value  # type: ignore[assignment]
    return attention


def can_scale(attention: nn.Module) -> bool:
    """Whether a module multiplies its result by its `scale`."""
    return isinstance(attention, SASEBlock) or type(attention).forward is Attention.forward


def gain_of(attention: nn.Module, gain: str | float) -> float:
    """The number that `set_gain` divides out. Raises ValueError as it does."""
    if gain == PUBLISHED:
        return 1.0
    if gain == UNIT:
        return starting_gain(attention)
    if isinstance(gain, bool) or not isinstance(gain, int | float) or not math.isfinite(gain) or gain == 0:
        raise ValueError(f"gain: wanted {PUBLISHED!r}, {UNIT!r} or a number other than 0, got {gain!r}")
    return float(gain)


def _of_block(block: SASEBlock) -> float:
    try:
        return copy.deepcopy(block).zero_gates()
    except TypeError as error:
        raise ValueError(f"{error}; or pass gain=measure_gain(...), a number") from None
