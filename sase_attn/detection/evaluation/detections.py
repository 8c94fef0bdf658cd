"""`detect`: the detections of a detector in images, in pixels of the images, with masks as run lengths."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NotRequired, TypedDict

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models.detection.roi_heads import paste_masks_in_image
from torchvision.models.detection.transform import resize_boxes

from sase_attn.detection.data.masks import RunLengths, mask_tools
from sase_attn.training.precision import autocast


class Detections(TypedDict):
    """The detections in one image, with the highest score first.

    `boxes` are float32 (N, 4), left, top, right, bottom in pixels of the image; `scores` float32 (N,), from 0 to 1;
    `labels` int64 (N,), where 1 is the first class; `masks` N masks, if the detector predicts them. All are on the CPU.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    masks: NotRequired[list[RunLengths]]


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Within the context, the model is in eval mode; afterwards every module has its own mode again."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@torch.no_grad()
def detect(model: Any, images: Sequence[Tensor], *, amp: str = "none") -> list[Detections]:
    """The detections of a detector of torchvision in images, with masks as run lengths, which need far less memory.

    torchvision expands every mask to the whole image: 100 masks for 12 megapixels take 4.8 GB.

    Args:
        model: a Faster or Mask R-CNN in eval mode.
        images: (3, H, W) each, uint8, or floats from 0 to 1.
        amp: type of autocast: "none", "bfloat16" or "float16".

    Raises:
        ImportError: faster-coco-eval, which writes the masks, is not installed.
    """
    device = next(model.parameters()).device
    inputs = [image.to(device).float() / 255 if image.dtype == torch.uint8 else image.to(device) for image in images]
    with autocast(amp, device):
        batch, _ = model.transform(inputs)
        features = model.backbone(batch.tensors)
        features = {"0": features} if isinstance(features, Tensor) else features
        proposals, _ = model.rpn(batch, features)
        found, _ = model.roi_heads(features, proposals, batch.image_sizes)
    paste = getattr(model.transform, "paste_masks", paste_masks_in_image)
    return [
        _of_image(seen, seen_size, (image.shape[-2], image.shape[-1]), paste)
        for seen, seen_size, image in zip(found, batch.image_sizes, images, strict=True)
    ]


def _of_image(
    seen: dict[str, Tensor], seen_size: tuple[int, int], size: tuple[int, int], paste: Callable[..., Tensor]
) -> Detections:
    """The result of the heads for an image that was resized to `seen_size`, converted to pixels of the image itself."""
    boxes = resize_boxes(seen["boxes"].float(), seen_size, size)
    made = Detections(boxes=boxes.cpu(), scores=seen["scores"].float().cpu(), labels=seen["labels"].cpu())
    if "masks" in seen:
        pieces = zip(seen["masks"].float(), boxes, strict=True)
        made["masks"] = [_encoded(paste(mask[None], box[None], size)[0, 0] > 0.5) for mask, box in pieces]
    return made


def _encoded(mask: Tensor) -> RunLengths:
    made: RunLengths = mask_tools().encode(np.asfortranarray(mask.cpu().numpy().astype(np.uint8)))
    return made
