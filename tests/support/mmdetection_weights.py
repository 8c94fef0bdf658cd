"""Artificial weights of a Faster or Mask R-CNN of any size, in the form in which mmdetection 2 and 3 save them."""

import torch
from torch import Tensor, nn

from sase_attn.genotype import genotypes
from sase_attn.weights.authors_keys import block_keys


def shapes_of_heads(
    channels=(256, 512, 1024, 2048), width=256, hidden=1024, classes=80, masks=None, anchors=3
) -> dict[str, tuple[int, ...]]:
    """The shapes of all weights except the backbone's; `masks` are the widths of the mask head's convolutions."""
    layers = {f"neck.lateral_convs.{level}.conv": (width, each, 1, 1) for level, each in enumerate(channels)}
    layers |= {f"neck.fpn_convs.{level}.conv": (width, width, 3, 3) for level in range(4)}
    layers |= {
        "rpn_head.rpn_conv": (width, width, 3, 3),
        "rpn_head.rpn_cls": (anchors, width, 1, 1),
        "rpn_head.rpn_reg": (4 * anchors, width, 1, 1),
        "roi_head.bbox_head.fc_cls": (classes + 1, hidden),
        "roi_head.bbox_head.fc_reg": (4 * classes, hidden),
        "roi_head.bbox_head.shared_fcs.0": (hidden, width * 49),
        "roi_head.bbox_head.shared_fcs.1": (hidden, hidden),
    }
    before = width
    for number, each in enumerate(masks or ()):
        layers[f"roi_head.mask_head.convs.{number}.conv"] = (each, before, 3, 3)
        before = each
    if masks:
        layers["roi_head.mask_head.upsample"] = (before, before, 2, 2)
        layers["roi_head.mask_head.conv_logits"] = (classes, before, 1, 1)
    shapes = {f"{name}.weight": shape for name, shape in layers.items()}
    biases = {f"{name}.bias": (shape[1 if "upsample" in name else 0],) for name, shape in layers.items()}
    return shapes | biases


_SIZES_OF_OUTPUTS = {"fc_cls": 0.4, "fc_reg": 0.3, "rpn_reg": 0.1}


def heads(seed=11, **sizes) -> dict[str, Tensor]:
    """Weights with which the scores and boxes of regions and classes differ."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, shape in shapes_of_heads(**sizes).items():
        values = torch.randn(shape, generator=generator)
        inputs = values[0].numel() if len(shape) > 1 else 4
        factor = next((factor for part, factor in _SIZES_OF_OUTPUTS.items() if part in name), 1)
        weights[name] = values * (2 / inputs) ** 0.5 * factor
    weights["roi_head.bbox_head.fc_cls.bias"].zero_()
    return weights


def backbone(body: nn.Module, genotype=genotypes["sase"]) -> dict[str, Tensor]:
    """A network's weights by the authors' names."""
    theirs = {ours: name for name, ours in block_keys(genotype).items()}
    weights = {}
    for key, value in body.state_dict().items():
        block, inside, rest = key.partition(".se.")
        weights[f"backbone.{block}.attention.{theirs[rest]}" if inside else f"backbone.{key}"] = value
    return {key: value for key, value in weights.items() if not key.startswith("backbone.fc.")}
