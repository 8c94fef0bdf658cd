"""Boxes stay in float32 where the rest of a detector is in a shorter type: `boxes_in_float32`.

torchvision decodes boxes in the type that its heads give. In bfloat16 a coordinate of 1000 pixels is a multiple of 4:
regions to learn from and detections are off by up to 2 pixels.
"""

from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection import FasterRCNN, MaskRCNN


def boxes_in_float32(model: FasterRCNN | MaskRCNN) -> None:
    """Let the last layers of both stages give float32 under autocast. A detector in float64 stays in it."""
    for head in (model.rpn.head, model.roi_heads.box_predictor, model.roi_heads.mask_predictor):
        if head is not None:
            head.register_forward_hook(_at_least_float32)


def _at_least_float32(module: object, inputs: object, output: Any) -> Any:
    if isinstance(output, Tensor):
        return output.to(torch.promote_types(output.dtype, torch.float32))  # float64 stays
    return type(output)(_at_least_float32(module, inputs, part) for part in output)
