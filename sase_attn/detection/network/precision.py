"""Boxes stay in float32 where the rest of a detector is in a shorter type: `boxes_in_float32`.

torchvision decodes boxes in the type that its heads give. In bfloat16 a coordinate of 1000 pixels is a multiple of 4:
regions to learn from and detections are off by up to 2 pixels.
"""

from typing import Any

from torch import Tensor
from torchvision.models.detection import FasterRCNN, MaskRCNN


def boxes_in_float32(model: FasterRCNN | MaskRCNN) -> None:
    """Let the last layers of both stages give float32 under autocast; without it they do already."""
    for head in (model.rpn.head, model.roi_heads.box_predictor, model.roi_heads.mask_predictor):
        if head is not None:
            head.register_forward_hook(_as_float32)


def _as_float32(module: object, inputs: object, output: Any) -> Any:
    if isinstance(output, Tensor):
        return output.float()
    return type(output)(_as_float32(module, inputs, part) for part in output)
