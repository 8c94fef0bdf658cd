"""Which weight of mmdetection goes where, and what is refused because it is of something else."""

import mmdetection_weights
import pytest
import torch

from sase_attn.detection.authors.keys import from_mmdetection

SIZES = {"channels": (4, 4, 8, 8), "width": 4, "hidden": 6, "classes": 3, "masks": (4, 5)}


def renamed(weights):
    return from_mmdetection(weights, source="a.pth")


def test_the_background_is_last_there_and_first_here():
    weights = mmdetection_weights.heads(**SIZES)
    ours = renamed(weights)
    theirs = weights["roi_head.bbox_head.fc_cls.weight"]
    assert torch.equal(ours["roi_heads.box_predictor.cls_score.weight"], torch.stack([theirs[3], *theirs[:3]]))
    for kind, there, each in [
        ("box_predictor.bbox_pred", "bbox_head.fc_reg", 4),
        ("mask_predictor.mask_fcn_logits", "mask_head.conv_logits", 1),
    ]:
        for part in ("weight", "bias"):
            value = ours[f"roi_heads.{kind}.{part}"]
            assert not value[:each].any() and torch.equal(value[each:], weights[f"roi_head.{there}.{part}"])
    assert torch.equal(ours["rpn.head.bbox_pred.weight"], weights["rpn_head.rpn_reg.weight"])
    assert torch.equal(ours["backbone.fpn.inner_blocks.3.0.bias"], weights["neck.lateral_convs.3.conv.bias"])
    assert torch.equal(ours["backbone.fpn.layer_blocks.0.0.weight"], weights["neck.fpn_convs.0.conv.weight"])
    assert torch.equal(ours["roi_heads.box_head.fc7.weight"], weights["roi_head.bbox_head.shared_fcs.1.weight"])
    assert torch.equal(ours["roi_heads.mask_head.1.0.weight"], weights["roi_head.mask_head.convs.1.conv.weight"])
    assert len(ours) == len(weights)


@pytest.mark.parametrize(
    "key, said",
    [
        ("roi_head.bbox_head.0.fc_cls.weight", "of Cascade R-CNN, with several heads"),
        ("bbox_head.fc_cls.weight", "of mmdetection 1, whose background comes first"),
        ("bbox_head.cls_convs.0.conv.weight", "of a detector without regions"),
        ("roi_head.bbox_head.shared_convs.0.conv.weight", "of another box head"),
        ("rpn_head.rpn_conv.0.conv.weight", "of another first stage"),
        ("neck.fpn_convs.4.conv.weight", "of a pyramid with a convolution for further levels"),
        ("neck.lateral_convs.0.gn.weight", "of norms in pyramid or heads"),
        ("backbone.layer2.0.conv2.conv_offset.weight", "of deformable convolutions"),
        ("ema_backbone_conv1_weight", "of averaged weights"),
        ("roi_head.mask_iou_head.fc.weight", "which a Faster or Mask R-CNN of mmdetection does not have"),
    ],
)
def test_other_detectors_are_named(key, said):
    with pytest.raises(ValueError, match=f"^a.pth holds {key}, .*{said}"):
        renamed(mmdetection_weights.heads(**SIZES) | {key: torch.zeros(3)})


def test_shapes_that_would_fit_something_else():
    weights = mmdetection_weights.heads(**SIZES)
    same_for_all = weights | {"roi_head.bbox_head.fc_reg.weight": torch.zeros(4, 6)}
    with pytest.raises(ValueError, match=r"boxes \(fc_reg\) are the same for all classes: wanted 4 for each of the 3"):
        renamed(same_for_all)
    first = weights | {"roi_head.bbox_head.fc_reg.weight": torch.zeros(16, 6)}  # as torchvision and mmdetection 1
    with pytest.raises(ValueError, match=r"boxes \(fc_reg\) have 16 outputs: wanted 4 for each of the 3 classes"):
        renamed(first)
    one_mask = weights | {"roi_head.mask_head.conv_logits.weight": torch.zeros(1, 5, 1, 1)}
    with pytest.raises(ValueError, match="masks .* are the same for all classes"):
        renamed(one_mask)
    for other in ({"backbone.conv1.weight": torch.zeros(1)}, {"conv1.weight": torch.zeros(1)}):
        with pytest.raises(ValueError, match="no detector of mmdetection|does not have"):
            renamed(other)
