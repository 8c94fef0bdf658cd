"""Names and order of a detector's weights in mmdetection, and in torchvision's detectors.

mmdetection's labels begin with the classes and end with the background; torchvision's begin with the background. For
the background, mmdetection predicts no boxes and masks. torchvision does but never uses them; their weights are set
to 0.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from sase_attn.weights.wrappers import StateDict

_END = r"\.(weight|bias)"
_NAMES = [
    (rf"neck\.lateral_convs\.(\d+)\.conv{_END}", r"backbone.fpn.inner_blocks.\1.0.\2"),
    (rf"neck\.fpn_convs\.([0-3])\.conv{_END}", r"backbone.fpn.layer_blocks.\1.0.\2"),
    (rf"rpn_head\.rpn_conv{_END}", r"rpn.head.conv.0.0.\1"),
    (rf"rpn_head\.rpn_cls{_END}", r"rpn.head.cls_logits.\1"),
    (rf"rpn_head\.rpn_reg{_END}", r"rpn.head.bbox_pred.\1"),
    (rf"roi_head\.bbox_head\.shared_fcs\.0{_END}", r"roi_heads.box_head.fc6.\1"),
    (rf"roi_head\.bbox_head\.shared_fcs\.1{_END}", r"roi_heads.box_head.fc7.\1"),
    (rf"roi_head\.bbox_head\.fc_cls{_END}", r"roi_heads.box_predictor.cls_score.\1"),
    (rf"roi_head\.bbox_head\.fc_reg{_END}", r"roi_heads.box_predictor.bbox_pred.\1"),
    (rf"roi_head\.mask_head\.convs\.(\d+)\.conv{_END}", r"roi_heads.mask_head.\1.0.\2"),
    (rf"roi_head\.mask_head\.upsample{_END}", r"roi_heads.mask_predictor.conv5_mask.\1"),
    (rf"roi_head\.mask_head\.conv_logits{_END}", r"roi_heads.mask_predictor.mask_fcn_logits.\1"),
]
_BACKBONE = "backbone."
# Keys of mmdetection's detectors that do not exist here, with their names; the first key that is found decides.
_OTHERS = {
    r"ema_": "averaged weights beside the trained ones",
    r"(bbox_head|mask_head)\.(fc_cls|fc_reg|shared_fcs|convs)\b": "mmdetection 1, whose background comes first",
    r"(bbox_head|bbox_mask_head)\.|query_|transformer\.|decoder\.": "a detector without regions",
    r"roi_head\.(bbox|mask)_head\.\d": "Cascade R-CNN, with several heads",
    r"roi_head\.bbox_head\.(shared_convs|cls_|reg_)": "another box head than two layers for both",
    r"rpn_head\.rpn_conv\.\d|rpn_head\.(?!rpn_)": "another first stage than one convolution",
    r"neck\.fpn_convs\.[4-9]": "a pyramid with a convolution for further levels",
    r"(neck|rpn_head|roi_head)\..*\.(gn|bn|ln)\.": "norms in pyramid or heads",
    r"backbone\..*\.conv_offset\.": "deformable convolutions",
}


def from_mmdetection(weights: Mapping[str, Tensor], *, source: str) -> StateDict:
    """Convert mmdetection's weights of a Faster or Mask R-CNN (versions 2 and 3) to those of the detectors here.

    Weights of the backbone keep their names below `backbone.body.`.

    Args:
        weights: the weights by mmdetection's names.
        source: their origin, for the error message.

    Raises:
        ValueError: the weights are of another detector, of mmdetection 1, or predict boxes or masks independent of the
            class; the message says what they seem to be.
    """
    for pattern, kind in _OTHERS.items():
        if key := next((key for key in weights if re.match(pattern, key)), None):
            raise ValueError(f"{source} holds {key}, of {kind}: wanted a Faster or Mask R-CNN of mmdetection 2 or 3")
    renamed = {_renamed(key, source): value for key, value in weights.items()}
    needed = ("roi_heads.box_predictor.cls_score.weight", "roi_heads.box_predictor.bbox_pred.weight")
    if any(name not in renamed for name in needed) or not any(key.startswith("neck.") for key in weights):
        raise ValueError(
            f"{source} is no detector of mmdetection, which has a neck and a roi_head.bbox_head; "
            "classifiers and backbones are for sase-attn import"
        )
    classes = len(renamed[needed[0]]) - 1
    for name, value in renamed.items():
        if ".box_predictor.cls_score." in name:
            renamed[name] = value.roll(1, 0)
        elif ".box_predictor.bbox_pred." in name:
            renamed[name] = _with_background(value, 4, classes, f"{source}: boxes (fc_reg)")
        elif ".mask_fcn_logits." in name:
            renamed[name] = _with_background(value, 1, classes, f"{source}: masks (conv_logits)")
    return renamed


def _renamed(key: str, source: str) -> str:
    if key.startswith(_BACKBONE):
        return f"{_BACKBONE}body.{key.removeprefix(_BACKBONE)}"
    for pattern, name in _NAMES:
        if found := re.fullmatch(pattern, key):
            return found.expand(name)
    raise ValueError(f"{source} holds {key}, which a Faster or Mask R-CNN of mmdetection does not have")


def _with_background(value: Tensor, each: int, classes: int, what: str) -> Tensor:
    """Put rows for the background before the rows of the classes."""
    if len(value) != each * classes:
        same = "are the same for all classes" if len(value) == each else f"have {len(value)} outputs"
        raise ValueError(f"{what} {same}: wanted {each} for each of the {classes} classes of fc_cls")
    return torch.cat([value.new_zeros(each, *value.shape[1:]), value])
