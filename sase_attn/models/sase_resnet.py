"""timm's ResNets with a SASE block before the shortcut of every residual block (arXiv 2411.08333).

`genotype` is a published name or an inline string (`str(Genotype)`), so that it survives the Hub; `gate_init` is what
the gates of a network trained from scratch start from, "constant" or "release" (`GATE_INITS`); `gain` is "published",
"unit", or the number that is divided out of the blocks (see `sase_attn.attentions.set_gain`). `pretrained=True` is a
warm start: timm's ImageNet weights of the plain network with the block inserted such that the outputs, in eval mode,
are the plain network's, and one step of SGD changes its weights as the plain network's; train on from there. The
constant that does this is remembered as `gain`. All other arguments are those of `timm.models.ResNet`.
"""

from functools import partial
from typing import Any

from timm.models import build_model_with_cfg, generate_default_cfgs, get_pretrained_cfg, register_model
from timm.models.resnet import BasicBlock, Bottleneck, ResNet

from sase_attn.attentions.registry import attention_factory
from sase_attn.attentions.starting_gain import PUBLISHED
from sase_attn.block import SASEBlock
from sase_attn.weights.warm_start import fit_pretrained

__all__: list[str] = []  # filled by register_model

default_cfgs = generate_default_cfgs(
    {
        "sase_resnet18.warm_a1_in1k": get_pretrained_cfg("resnet18.a1_in1k"),
        "sase_resnet34.warm_a1_in1k": get_pretrained_cfg("resnet34.a1_in1k"),
        "sase_resnet50.warm_a1_in1k": get_pretrained_cfg("resnet50.a1_in1k"),
        "sase_resnet50d.warm_a1_in1k": get_pretrained_cfg("resnet50d.a1_in1k"),
        "sase_resnet101.warm_a1h_in1k": get_pretrained_cfg("resnet101.a1h_in1k"),
    }
)


def attention_args(genotype: str, gate_init: str, gain: str | float | None) -> dict[str, Any]:
    """`block_args` of timm's residual blocks that put a SASE block of the genotype into them."""
    if not isinstance(genotype, str):
        raise TypeError(f"models take a genotype as a string, to be reproducible; pass str(genotype), not {genotype!r}")
    block = partial(SASEBlock, genotype=genotype)
    options = {"gate_init": gate_init, "gain": PUBLISHED if gain is None else gain}
    return dict(attn_layer=attention_factory(block, options))


def _create(
    name: str,
    pretrained: bool,
    genotype: str = "sase",
    gate_init: str = "constant",
    gain: str | float | None = None,
    **kwargs: Any,
) -> ResNet:
    block_args = attention_args(genotype, gate_init, gain)
    return build_model_with_cfg(
        ResNet,
        name,
        pretrained,
        pretrained_filter_fn=partial(fit_pretrained, gain=gain),
        block_args=block_args,
        **kwargs,
    )


@register_model
def sase_resnet18(pretrained: bool = False, **kwargs: Any) -> ResNet:
    """ResNet-18 with SASE blocks."""
    return _create("sase_resnet18", pretrained, **dict(block=BasicBlock, layers=(2, 2, 2, 2)) | kwargs)


@register_model
def sase_resnet34(pretrained: bool = False, **kwargs: Any) -> ResNet:
    """ResNet-34 with SASE blocks."""
    return _create("sase_resnet34", pretrained, **dict(block=BasicBlock, layers=(3, 4, 6, 3)) | kwargs)


@register_model
def sase_resnet50(pretrained: bool = False, **kwargs: Any) -> ResNet:
    """ResNet-50 with SASE blocks: the paper's model, 28,102,568 parameters."""
    return _create("sase_resnet50", pretrained, **dict(block=Bottleneck, layers=(3, 4, 6, 3)) | kwargs)


@register_model
def sase_resnet50d(pretrained: bool = False, **kwargs: Any) -> ResNet:
    """ResNet-50-D (deep stem, average pooling in shortcuts) with SASE blocks."""
    stem = dict(stem_width=32, stem_type="deep", avg_down=True)
    return _create("sase_resnet50d", pretrained, **dict(block=Bottleneck, layers=(3, 4, 6, 3)) | stem | kwargs)


@register_model
def sase_resnet101(pretrained: bool = False, **kwargs: Any) -> ResNet:
    """ResNet-101 with SASE blocks: the paper's model, 49,358,144 parameters."""
    return _create("sase_resnet101", pretrained, **dict(block=Bottleneck, layers=(3, 4, 23, 3)) | kwargs)
