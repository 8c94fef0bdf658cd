"""Functions without arguments that make a module of every class that owns tensors, and small networks of every kind."""

from functools import partial

import timm
import torch

import sase_attn
from sase_attn import Genotype, SASEBlock, create_attention, create_op
from sase_attn.attentions import list_attentions
from sase_attn.models.placement import PLACEMENTS
from sase_attn.ops import OP_SETS
from sase_attn.search import SearchBlock, SearchSpace
from sase_attn.spatially_adaptive import SpatiallyAdaptiveSkip
from sase_attn.spatially_adaptive.synthesis.discriminator import Discriminator
from sase_attn.spatially_adaptive.synthesis.generator import Generator
from sase_attn.spatially_adaptive.synthesis.layers import Noise
from sase_attn.spatially_adaptive.synthesis.one_shot.model import OneShotModel
from sase_attn.spatially_adaptive.synthesis.one_shot.networks import ScaleDiscriminator

CHANNELS = 24
IMAGE = torch.arange(3 * 12 * 9, dtype=torch.uint8).view(3, 12, 9)
MIXERS = Genotype("gap_std", "conv1d_k3_x2", "affine", "gap_skew", "gap_gmp", "affine")

MODULES = {
    **{
        f"{op_set} {name}": partial(create_op, op_set, name, CHANNELS)
        for op_set, ops in OP_SETS.items()
        for name in ops
    },
    **{name: partial(create_attention, name, CHANNELS) for name in list_attentions()},
    "ge_theta by steps": partial(create_attention, "ge_theta", CHANNELS, extent=4),
    "att_darts mixed": partial(create_attention, "att_darts", CHANNELS, choice="mixed"),
    "constant learned": partial(create_attention, "constant", CHANNELS, value=0.7, learned=True),
    "block": partial(SASEBlock, CHANNELS, MIXERS),
    "block as released": partial(SASEBlock, CHANNELS, MIXERS, gate_init="release"),
    "search block": partial(SearchBlock, CHANNELS, SearchSpace.get("release")),
    "skip": partial(SpatiallyAdaptiveSkip, 16, 8, mask_noise=True),
    "noise": Noise,
}
"""Cases for which resetting the modules one by one, in any order, restores the initial values."""


def attached(attention, preserve=False, **options):
    model = timm.create_model("resnet20_cifar", layers=[1, 1, 1])
    sase_attn.attach(model, after="layer*.*.bn2", attn=attention, preserve_output=preserve, **options)
    return model


def attached_twice():
    """A network with attention in its blocks, and after a whole stage of them."""
    model = attached("gc")
    sase_attn.attach(model, after="layer2", attn="se", preserve_output=True)
    return model


NETWORKS = {
    **{f"{name}_resnet20": partial(timm.create_model, f"{name}_resnet20", layers=[1, 1, 1]) for name in PLACEMENTS},
    "resnet20_cifar": partial(timm.create_model, "resnet20_cifar", layers=[1, 1, 1]),
    "sase_resnet20": partial(timm.create_model, "sase_resnet20", layers=[1, 1, 1], gain="unit"),
    "sase_resnet50d": partial(timm.create_model, "sase_resnet50d", layers=[1, 1], channels=[8, 16], num_classes=3),
    "replaced": partial(timm.create_model, "attached", base="se_resnet20", replace="se", attn="gc", layers=[1, 1, 1]),
    "tiled": partial(timm.create_model, "attached", base="se_resnet20", tile={"rows": 7}, layers=[1, 1, 1]),
    **{f"{name} attached": partial(attached, name) for name in ("sase", "gc", "mca_e")},
    **{
        f"{name} attached, output kept": partial(attached, name, preserve=True)
        for name in ("sase", "se", "eca", "gc", "cbam", "tiled_se", "autola")
    },
    "attached twice": attached_twice,
    "skip with spectral norm": partial(SpatiallyAdaptiveSkip, 16, 8, mask_noise=True, spectral_norm=True),
    "generator": partial(Generator, 64, 4, 8, spectral_norm=False),
    "discriminator": partial(Discriminator, 64, 4, spectral_norm=False),
    "one-shot": partial(OneShotModel, IMAGE, [(6, 5), (12, 9)], 8, seed=3),
    "one-shot discriminator": partial(ScaleDiscriminator, 1, 8),
}
"""Cases for which `sase_attn.init_weights` restores the initial values."""
