"""CIFAR ResNets (He et al., arXiv 1512.03385 §4.2), plain and with SASE blocks: the network of the paper's search.

`pretrained=True` loads weights that come with the package, see `pretrained_files`. Their tag also fixes the gain that
the blocks start with, if none is given.

The network has a 3×3 stem of 16 channels, and three stages of 16, 32 and 64 channels at 1, 1/2 and 1/4 of the size.
Deviation from He et al., as in the SASE release: shortcuts that change shape are 1×1 convolutions with batch norm.
"""

from functools import partial
from typing import Any

import torch
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models._features import feature_take_indices
from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from torch import Tensor, nn

from sase_attn.models.pretrained_files import configured, note_gain, tagged
from sase_attn.models.sase_resnet import attention_args
from sase_attn.ops.arguments import known
from sase_attn.weights.warm_start import fit_pretrained

__all__: list[str] = []  # filled by register_model

CIFAR_CFG = dict(
    num_classes=10,
    input_size=(3, 32, 32),
    pool_size=(8, 8),
    crop_pct=1.0,
    interpolation="bicubic",
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2470, 0.2435, 0.2616),
    first_conv="conv1",
    classifier="fc",
    license="apache-2.0",
)
default_cfgs = generate_default_cfgs(tagged("resnet20_cifar", CIFAR_CFG) | tagged("sase_resnet20", CIFAR_CFG))


BLOCKS: dict[str, type[nn.Module]] = {"basic": BasicBlock, "bottleneck": Bottleneck}


class CifarResNet(ResNet):
    """timm's ResNet with the CIFAR stem and three stages; `layer4` is empty.

    `block` is a class, as in timm, or "basic" or "bottleneck", which can be saved to the Hub. Raises UnknownNameError
    for another name.
    """

    def __init__(
        self, block: str | type[nn.Module], in_chans: int = 3, zero_init_last: bool = True, **kwargs: Any
    ) -> None:
        if isinstance(block, str):
            block = BLOCKS[known("block", block, BLOCKS)]
        # timm's stages start at 16 channels only with a deep stem of half the width, which is replaced below.
        super().__init__(
            block=block,
            in_chans=in_chans,
            channels=(16, 32, 64),
            stem_type="deep",
            stem_width=8,
            zero_init_last=False,
            **kwargs,
        )
        self.conv1 = nn.Conv2d(
            in_chans, 16, 3, padding=1, bias=False, device=kwargs.get("device"), dtype=kwargs.get("dtype")
        )
        self.maxpool = nn.Identity()
        self.layer4 = nn.Sequential()
        for feature in self.feature_info:
            feature["reduction"] = max(1, feature["reduction"] // 4)
        self.init_weights(zero_init_last)

    @torch.jit.ignore
    def forward_intermediates(
        self, x: Tensor, indices: int | list[int] | None = None, **kwargs: Any
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """As timm's; the features are those of the stem and of three stages."""
        return super().forward_intermediates(x, feature_take_indices(4, indices)[0], **kwargs)

    def prune_intermediate_layers(
        self, indices: int | list[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """As timm's; the features are those of the stem and of three stages."""
        taken, last = feature_take_indices(4, indices)
        # timm counts the empty fourth stage as the end of the network.
        super().prune_intermediate_layers([4] if last == 3 else taken, prune_norm, prune_head)
        return taken


def _create(name: str, pretrained: bool, gain: str | float | None = None, **kwargs: Any) -> CifarResNet:
    args = dict(block=BasicBlock, layers=(3, 3, 3)) | kwargs
    return build_model_with_cfg(
        CifarResNet,
        name,
        pretrained,
        pretrained_filter_fn=partial(fit_pretrained, gain=gain),
        feature_cfg=dict(out_indices=(0, 1, 2, 3)),
        **args,
    )


@register_model
def resnet20_cifar(pretrained: bool = False, **kwargs: Any) -> CifarResNet:
    """ResNet-20 for 32×32 images, without attention."""
    return _create("resnet20_cifar", pretrained, **configured("resnet20_cifar", pretrained, kwargs)[0])


@register_model
def sase_resnet20(
    pretrained: bool = False,
    genotype: str = "sase",
    gate_init: str = "constant",
    gain: str | float | None = None,
    **kwargs: Any,
) -> CifarResNet:
    """ResNet-20 for 32×32 images with SASE blocks."""
    arguments, of_file = configured("sase_resnet20", pretrained, {**kwargs, "gain": gain})
    block_args = attention_args(genotype, gate_init, arguments["gain"])
    return note_gain(_create("sase_resnet20", pretrained, block_args=block_args, **arguments), of_file)
