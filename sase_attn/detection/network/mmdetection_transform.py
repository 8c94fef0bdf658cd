"""`MmdetectionTransform`: resizes images and pastes masks as mmdetection does; it replaces torchvision's transform."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.models.detection.transform import GeneralizedRCNNTransform, resize_boxes

from sase_attn.detection.network.transform import sides_for_network

_GRAY_LEVELS = 255


class MmdetectionTransform(GeneralizedRCNNTransform):  # type: ignore[misc]
    """Resizes, normalises and pads images to multiples of 32; maps boxes and masks back to the images' size.

    - Sides are rounded to whole pixels, while torchvision rounds down.
    - The resized image is rounded to whole values from 0 to 255, as by OpenCV. OpenCV's weights have 11 bits, so that
      some values differ by 1.
    - A mask is sampled at the centres of the image's pixels, and is 0 outside of its box. torchvision rounds the
      corners of a mask's box to whole pixels.
    """

    def normalize(self, image: Tensor) -> Tensor:
        """Return the image unchanged, because `resize` normalises it. Raises TypeError for an image of integers."""
        if not image.is_floating_point():
            raise TypeError(f"wanted an image of floats from 0 to 1, got {image.dtype}")
        return image

    def resize(self, image: Tensor, target: dict[str, Tensor] | None = None) -> tuple[Tensor, dict[str, Tensor] | None]:
        """An image (3, H, W) and its target, resized for the network; the image is also normalised."""
        old = image.shape[-2:]
        shorter = self.torch_choice(self.min_size) if self.training else self.min_size[-1]
        size = sides_for_network(image, shorter, self.max_size, rounded=True)
        image = F.interpolate(image[None], size=size, mode="bilinear", align_corners=False)[0]
        image = super().normalize(torch.round(image * _GRAY_LEVELS) / _GRAY_LEVELS)
        if target is not None:
            target["boxes"] = resize_boxes(target["boxes"], old, image.shape[-2:])
            if "masks" in target:
                target["masks"] = F.interpolate(target["masks"][:, None].float(), size=size)[:, 0].byte()
        return image, target

    def postprocess(
        self,
        result: list[dict[str, Tensor]],
        image_shapes: Sequence[tuple[int, int]],
        original_image_sizes: Sequence[tuple[int, int]],
    ) -> list[dict[str, Tensor]]:
        """Detections in the pixels of the images, with masks (N, 1, H, W) of probabilities."""
        if not self.training:
            for found, size, original in zip(result, image_shapes, original_image_sizes, strict=True):
                found["boxes"] = resize_boxes(found["boxes"], size, original)
                if "masks" in found:
                    found["masks"] = self.paste_masks(found["masks"], found["boxes"], original)
        return result

    def paste_masks(self, masks: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
        """Expand masks (N, 1, h, w) of boxes (N, 4) to an image of a size, sampled at pixel centres; 0 outside."""
        height, width = size
        rows = torch.arange(height, dtype=boxes.dtype, device=boxes.device) + 0.5
        columns = torch.arange(width, dtype=boxes.dtype, device=boxes.device) + 0.5
        if torch.onnx.is_in_onnx_export():
            return _sampled(masks, boxes, rows, columns)
        images = masks.new_zeros((len(masks), 1, height, width))
        for number, (x0, y0, x1, y1) in enumerate(boxes.tolist()):
            down, across = _reach(y0, y1, masks.shape[2], height), _reach(x0, x1, masks.shape[3], width)
            one = slice(number, number + 1)
            images[one, :, down, across] = _sampled(masks[one], boxes[one], rows[down], columns[across])
        return images


def _reach(start: float, end: float, cells: int, length: int) -> slice:
    """The pixels that a box's mask may cover, which reach half a cell beyond the box."""
    more = (end - start) / (2 * cells) + 1
    return slice(max(int(start - more), 0), min(int(end + more) + 1, length))


def _sampled(masks: Tensor, boxes: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    x0, y0, x1, y1 = boxes[:, :, None].unbind(1)
    down, across = (rows - y0) / (y1 - y0) * 2 - 1, (columns - x0) / (x1 - x0) * 2 - 1
    shape = (-1, down.shape[1], across.shape[1])
    grid = torch.stack([across[:, None, :].expand(shape), down[:, :, None].expand(shape)], dim=3)
    return F.grid_sample(masks, grid.to(masks.dtype), align_corners=False)
