"""The attentions by name: `create_attention`, `list_attentions`, `register_attention`."""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import nn

from sase_attn.attentions.att_darts import AttDARTS
from sase_attn.attentions.autola import AutoLA
from sase_attn.attentions.bam import BAM
from sase_attn.attentions.cbam import CBAM
from sase_attn.attentions.constant import Constant
from sase_attn.attentions.double_attention import DoubleAttention
from sase_attn.attentions.ean import EAN
from sase_attn.attentions.eca import ECA
from sase_attn.attentions.gather_excite import GETheta, GEThetaMinus, GEThetaPlus
from sase_attn.attentions.gc import GC
from sase_attn.attentions.gct_gated import GatedChannelTransform
from sase_attn.attentions.gct_gaussian import GCTGaussian
from sase_attn.attentions.glam import GLAM
from sase_attn.attentions.gsop import GSoP
from sase_attn.attentions.mca import MCAE, MCAS
from sase_attn.attentions.psa import PSA
from sase_attn.attentions.scse import ScSE
from sase_attn.attentions.se import SE
from sase_attn.attentions.srm import SRM
from sase_attn.attentions.starting_gain import PUBLISHED, set_gain
from sase_attn.block import SASEBlock
from sase_attn.errors import UnknownNameError, unknown_name
from sase_attn.genotype import Genotype, genotypes
from sase_attn.ops.arguments import known
from sase_attn.placed import build_placed
from sase_attn.spatially_adaptive.literal import LiteralSpatiallyAdaptiveSE
from sase_attn.spatially_adaptive.same_layer import SpatiallyAdaptiveSE

ATTENTIONS: dict[str, type[nn.Module]] = {
    "se": SE,
    "eca": ECA,
    "cbam": CBAM,
    "bam": BAM,
    "srm": SRM,
    "gsop": GSoP,
    "gct_gaussian": GCTGaussian,
    "gct_gated": GatedChannelTransform,
    "mca_e": MCAE,
    "mca_s": MCAS,
    "ean": EAN,
    "autola": AutoLA,
    "gc": GC,
    "scse": ScSE,
    "glam": GLAM,
    "psa": PSA,
    "ge_theta_minus": GEThetaMinus,
    "ge_theta": GETheta,
    "ge_theta_plus": GEThetaPlus,
    "double_attention": DoubleAttention,
    "att_darts": AttDARTS,
    "spatial_sase": SpatiallyAdaptiveSE,
    "spatial_sase_literal": LiteralSpatiallyAdaptiveSE,
    "sase": SASEBlock,
    "constant": Constant,
}
"""The classes of the attentions by name; `register_attention` adds yours."""


def list_attentions() -> list[str]:
    """Names of the attentions, those of the literature first, then yours."""
    return list(ATTENTIONS)


def create_attention(name: str | Genotype, channels: int, **options: Any) -> nn.Module:
    """Build an attention that maps (B, channels, H, W) to the same shape, for example `create_attention("srm", 64)`.

    Args:
        name: one of `list_attentions()`, or a genotype, its name or its inline string for a `SASEBlock`.
        channels: C.
        options: arguments of the attention's class, such as `rd_ratio`; `device` and `dtype`; and `gain`, which is
            "published" by default, "unit" to start as if the attention were not there, or a number (see `set_gain`).

    Raises:
        UnknownNameError: no such attention or genotype; the nearest names are given.
        TypeError: an option that this attention does not have.
        ValueError: a value out of its range.
    """
    if not isinstance(name, str | Genotype):
        raise unknown_name("attention", name, ATTENTIONS)
    return attention_factory(name, options)(channels)


def get_attention(name: str) -> type[nn.Module]:
    """The class of an attention. Raises UnknownNameError with the nearest names."""
    return ATTENTIONS[known("attention", name, ATTENTIONS)]


def register_attention(name: str, attention: type[nn.Module], *, overwrite: bool = False) -> type[nn.Module]:
    """Add your attention: from then on it can be created, attached, put in the place of others, and saved by name.

    Args:
        name: letters, digits and underscores.
        attention: a module class that accepts the channels first, and then its own options, except `gain`. `device` and
            `dtype` are passed if its signature has them; otherwise the module is moved. Derive from
            `sase_attn.attentions.Attention`, and compute the formula in `attend`, so that networks with it can keep
            their output and start at another gain.
        overwrite: replace an attention of the same name.

    Raises:
        ValueError: the name is taken, is no identifier, or is that of a genotype; or the class has an option `gain`.
        TypeError: `attention` is not a class of modules, or does not accept the channels.
    """
    if not name.isidentifier():
        raise ValueError(f"an attention's name must be letters, digits and underscores, got {name!r}")
    if name in genotypes and name not in ATTENTIONS:
        raise ValueError(f"{name!r} is the name of a genotype")
    if name in ATTENTIONS and not overwrite:
        raise ValueError(f"there is an attention {name!r}; pass overwrite=True to replace it")
    if not (isinstance(attention, type) and issubclass(attention, nn.Module)):
        raise TypeError(f"attention must be a class derived from torch.nn.Module, got {attention!r}")
    signature = inspect.signature(attention)
    if "gain" in signature.parameters:
        raise ValueError(f"{attention.__name__} has an option gain, which every attention has; name yours otherwise")
    try:
        signature.bind_partial(64)
    except TypeError:
        raise TypeError(f"{attention.__name__} must accept the channels as its first argument") from None
    ATTENTIONS[name] = attention
    return attention


def attention_factory(
    attention: str | Genotype | Callable[..., nn.Module], options: Mapping[str, Any]
) -> Callable[..., nn.Module]:
    """A function that builds an attention from its channels, and from `device` and `dtype` as keyword arguments.

    These two are passed on if the attention's signature has them; otherwise the new module is moved. The function
    raises TypeError for an option that the attention does not have, and if no module comes out.

    Args:
        attention: a name or inline genotype as in `create_attention`, or a class or function, called with the channels.
        options: passed on at each call, except `gain`, for which see `set_gain`.

    Raises:
        UnknownNameError: no such attention or genotype.
    """
    options = dict(options)
    gain = options.pop("gain", PUBLISHED)
    if isinstance(attention, str) and attention in ATTENTIONS:
        build: Callable[..., nn.Module] = ATTENTIONS[attention]
    elif isinstance(attention, str | Genotype):
        genotype = attention if isinstance(attention, Genotype) else _parse(attention)
        build = partial(SASEBlock, genotype=genotype)
    else:
        build = attention
    return lambda channels, **place: set_gain(build_placed(build, channels, **options, **place), gain)


def _parse(text: str) -> Genotype:
    if ":" in text:
        return Genotype.parse(text)
    try:
        return Genotype.parse(text)
    except UnknownNameError:
        raise unknown_name("attention", text, [*ATTENTIONS, *genotypes]) from None
