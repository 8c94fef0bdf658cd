"""`PLACEMENTS`: where each attention of the literature goes in a ResNet, by its paper or its authors' code."""

from collections.abc import Callable, Iterator
from typing import Any

from timm.models.resnet import ResNet
from torch import Tensor, nn

from sase_attn.insert import Attached

Build = Callable[..., nn.Module]  # (channels, stage, **options of this place)


class Preceded(nn.Module):
    """A layer of a network, `host`, after an attention, `attn`."""

    def __init__(self, attn: nn.Module, host: nn.Module) -> None:
        super().__init__()
        self.attn = attn
        self.host = host

    def forward(self, x: Tensor) -> Tensor:
        return self.host(self.attn(x))


def _stages(model: ResNet) -> list[nn.Sequential]:
    return [stage for stage in (model.layer1, model.layer2, model.layer3, model.layer4) if len(stage)]


def _blocks(model: ResNet) -> Iterator[tuple[int, Any]]:
    for number, stage in enumerate(_stages(model)):
        for block in stage:
            yield number, block


def _width(block: Any) -> int:
    return (block.bn3 if hasattr(block, "bn3") else block.bn2).num_features


def in_every_block(model: ResNet, build: Build) -> None:
    """After the last norm of every block, before the shortcut is added."""
    for number, block in _blocks(model):
        block.se = build(_width(block), number)


def at_inner_width(model: ResNet, build: Build) -> None:
    """After the 3×3 convolution of every bottleneck and its norm; after the last norm of basic blocks."""
    for number, block in _blocks(model):
        block.bn2 = Attached(block.bn2, build(block.bn2.num_features, number))


def in_last_blocks(model: ResNet, build: Build) -> None:
    """In the last block of each stage; the reduction of the first has stride 2, a fourth stage none."""
    for number, stage in enumerate(_stages(model)):
        stage[-1].se = build(_width(stage[-1]), number, stride=2 if number == 0 else 1)
    if len(model.layer4):
        first = model.layer4[0]
        for conv in (first.conv1, first.conv2, *first.downsample):
            if isinstance(conv, nn.Conv2d):
                conv.stride = (1, 1)
        model.feature_info[-1]["reduction"] = model.feature_info[-2]["reduction"]


def between_stages(model: ResNet, build: Build) -> None:
    """After every stage but the last."""
    for number, stage in enumerate(_stages(model)[:-1]):
        stage.add_module("attn", build(_width(stage[-1]), number))


def after_the_last_stage(model: ResNet, build: Build) -> None:
    """Once, after the last stage."""
    stage = _stages(model)[-1]
    stage.add_module("attn", build(_width(stage[-1]), 0))


def before_every_convolution(model: ResNet, build: Build) -> None:
    """Before every convolution, that of the stem and of the shortcuts included."""
    for name, conv in [(name, conv) for name, conv in model.named_modules() if isinstance(conv, nn.Conv2d)]:
        model.set_submodule(name, Preceded(build(conv.in_channels, 0), conv))


def instead_of_convolution(model: ResNet, build: Build) -> None:
    """In the place of the 3×3 convolution of every bottleneck; of the second one of basic blocks."""
    for number, block in _blocks(model):
        block.conv2 = build(block.conv2.in_channels, number, stride=block.conv2.stride[0])


PLACEMENTS: dict[str, Callable[[ResNet, Build], None]] = {
    "se": in_every_block,
    "eca": in_every_block,
    "cbam": in_every_block,
    "bam": between_stages,
    "srm": in_every_block,
    "gsop": in_last_blocks,
    "gct_gaussian": in_every_block,
    "gct_gated": before_every_convolution,
    "mca_e": in_every_block,
    "mca_s": in_every_block,
    "ean": in_every_block,
    "autola": at_inner_width,
    "gc": in_every_block,
    "scse": in_every_block,
    "glam": after_the_last_stage,
    "psa": instead_of_convolution,
    "ge_theta_minus": in_every_block,
    "ge_theta": in_every_block,
    "ge_theta_plus": in_every_block,
    "double_attention": in_every_block,
    "spatial_sase": instead_of_convolution,
}
"""Where each attention goes."""
