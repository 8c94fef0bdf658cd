"""`boxes_in_float32`: keep boxes in float32 where autocast computes the rest of a detector in half precision.

torchvision decodes boxes in the type of its heads' outputs. In bfloat16, a coordinate near 1000 pixels is a multiple of
4, so that proposals and detections are off by up to 2 pixels.
"""

from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection import FasterRCNN, MaskRCNN


def boxes_in_float32(model: FasterRCNN | MaskRCNN) -> None:
    """Make the last layers of both stages return float32 under autocast. A detector in float64 stays in float64."""
    for head in (model.rpn.head, model.roi_heads.box_predictor, model.roi_heads.mask_predictor):
        if head is not None:
            head.register_forward_hook(_at_least_float32)


def _at_least_float32(module: object, inputs: object, output: Any) -> Any:
    if isinstance(output, Tensor):
        return output.to(torch.promote_types(output.dtype, torch.float32))  # float64 does not change
    return type(output)(_at_least_float32(module, inputs, part) for part in output)
