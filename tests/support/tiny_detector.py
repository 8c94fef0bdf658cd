"""A detector that trains a step in a few hundredths of a second, and images for it."""

from typing import Any

import torch
from torch import Tensor

from sase_attn.detection.config import DETECTION_RECIPES, DetectionConfig

TINY_BACKBONE = {"layers": [1, 1, 1, 1], "channels": [8, 8, 16, 16], "zero_init_last": False}


def tiny_config(**values: Any) -> DetectionConfig:
    """A Faster R-CNN on a SASE-ResNet with one block per stage, for images of 64 pixels."""
    return DETECTION_RECIPES["faster-rcnn-small"].override(
        **{
            "backbone_kwargs": TINY_BACKBONE,
            "pyramid_width": 8,
            "box_head_width": 16,
            "mask_head_widths": (8,),
            "mask_predictor_width": 8,
            "anchor_sizes": (8, 16, 24, 32, 48),
            "proposals_train": 32,
            "proposals_test": 32,
            "rois_per_image": 16,
            "detections_per_image": 8,
            "min_size": (64,),
            "max_size": 96,
        }
        | values
    )


def images_and_targets(*, masks: bool = False) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """An image with two objects, and one without any."""
    images = [torch.rand(3, 60, 80), torch.rand(3, 64, 48)]
    boxes = [torch.tensor([[4.0, 4, 30, 40], [20, 10, 70, 50]]), torch.zeros(0, 4)]
    targets = [{"boxes": each, "labels": torch.arange(1, len(each) + 1)} for each in boxes]
    if masks:
        for image, target in zip(images, targets, strict=True):
            found = torch.zeros(len(target["boxes"]), *image.shape[1:], dtype=torch.uint8)
            for mask, (x1, y1, x2, y2) in zip(found, target["boxes"].int().tolist(), strict=True):
                mask[y1:y2, x1:x2] = 1
            target["masks"] = found
    return images, targets
