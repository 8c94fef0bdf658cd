"""`create_detector`: torchvision's Faster R-CNN or Mask R-CNN on a network of this package or of timm.

`create_backbone` builds only the network with its pyramid, for other detectors of torchvision.
"""

from collections.abc import Callable
from typing import Any

from torchvision.models.detection import FasterRCNN, MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.rpn import RPNHead

from sase_attn.detection.config import DetectionConfig
from sase_attn.detection.network.backbone import PyramidBackbone
from sase_attn.detection.network.body import create_body, is_channels_last
from sase_attn.detection.network.freezing import freeze_backbone
from sase_attn.detection.network.mmdetection import follow_mmdetection
from sase_attn.detection.network.precision import boxes_in_float32
from sase_attn.detection.network.transform import exact_transform
from sase_attn.settings import MANY

_BOX_CELLS = 7 * 7  # cells of a region's map at the input of the box head


def create_detector(
    config: DetectionConfig, num_classes: int, *, echo: Callable[[str], object] = print
) -> FasterRCNN | MaskRCNN:
    """The detector of a configuration with its initial weights, which follow from the seed; it seeds torch's generator.

    In training mode it accepts images (3, H, W) of values from 0 to 1 and targets, and returns losses; in eval mode it
    returns boxes, labels from 1, scores, and masks. `model.backbone.body` is the network, `model.backbone.fpn` the
    pyramid. Images are normalised as the backbone's weights require.

    Args:
        config: settings of the network; of those of the training, only frozen parts and the seed are used.
        num_classes: number of classes; the heads have one more output, for the background.
        echo: called with a line for each change that was needed to make weights fit, and for frozen random weights.

    Raises:
        UnknownNameError: no such backbone.
        ValueError: there is no class; or the backbone does not accept the arguments, its weights do not fit, or it has
            no feature maps at strides 4, 8, 16 and 32.
        FileNotFoundError: `init_from` does not exist. HubError: timm's weights cannot be fetched.
    """
    if isinstance(num_classes, bool) or not isinstance(num_classes, int) or not 1 <= num_classes < MANY:
        raise ValueError(f"wanted at least one class to detect, got num_classes={num_classes!r}")
    backbone = create_backbone(config, echo=echo)
    width = config.pyramid_width
    ratios = config.anchor_ratios
    model = (MaskRCNN if config.has_masks else FasterRCNN)(
        backbone,
        min_size=config.min_size,
        max_size=config.max_size,
        image_mean=list(backbone.body.pretrained_cfg["mean"]),  # type: ignore[index]
        image_std=list(backbone.body.pretrained_cfg["std"]),  # type: ignore[index]
        rpn_anchor_generator=AnchorGenerator(
            tuple((size,) for size in config.anchor_sizes), (ratios,) * len(config.anchor_sizes)
        ),
        rpn_head=RPNHead(width, len(ratios)),
        rpn_pre_nms_top_n_train=config.proposals_train,
        rpn_pre_nms_top_n_test=config.proposals_test,
        rpn_post_nms_top_n_train=config.proposals_train,
        rpn_post_nms_top_n_test=config.proposals_test,
        rpn_batch_size_per_image=config.anchors_per_image,
        box_head=TwoMLPHead(width * _BOX_CELLS, config.box_head_width),
        box_predictor=FastRCNNPredictor(config.box_head_width, num_classes + 1),
        box_score_thresh=config.score_threshold,
        box_nms_thresh=config.nms_threshold,
        box_detections_per_img=config.detections_per_image,
        box_batch_size_per_image=config.rois_per_image,
        **_mask_parts(config, num_classes),
    )
    if config.conventions == "mmdetection":
        follow_mmdetection(model)
    else:
        model.transform = exact_transform(model.transform)
    boxes_in_float32(model)
    return model


def create_backbone(config: DetectionConfig, *, echo: Callable[[str], object] = print) -> PyramidBackbone:
    """The backbone of `create_detector` with its pyramid, frozen as the configuration says; it seeds torch's generator.

    Args:
        config: only the fields of the backbone, pyramid_width, frozen parts, and the seed are used.
        echo: as in `create_detector`.

    Raises:
        UnknownNameError, ValueError, FileNotFoundError, HubError: as `create_detector`.
    """
    body = create_body(config, echo=echo)
    widths = body.feature_info.channels()  # type: ignore[union-attr,operator]
    backbone = PyramidBackbone(body, widths, config.pyramid_width, channels_last=is_channels_last(body))
    freeze_backbone(backbone, config)
    if config.init_from is None and (config.freeze_stages >= 0 or config.frozen_norms):
        echo(
            f"the backbone starts at random, and what is frozen stays so: give init_from, or set freeze_stages to -1 "
            f"and frozen_norms to false (here {config.freeze_stages} and {str(config.frozen_norms).lower()})"
        )
    return backbone


def _mask_parts(config: DetectionConfig, num_classes: int) -> dict[str, Any]:
    if not config.has_masks:
        return {}
    widths = config.mask_head_widths
    return {
        "mask_head": MaskRCNNHeads(config.pyramid_width, widths, 1),
        "mask_predictor": MaskRCNNPredictor(widths[-1], config.mask_predictor_width, num_classes + 1),
    }
