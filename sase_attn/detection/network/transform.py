"""`ExactTransform`: torchvision's transform of images, with the same resized sides in an ONNX file.

torchvision computes the sides of resized images in float64, but in float32 in an exported file. For one image size in
ten, the exported detector then gets an image that is a pixel smaller or larger, and finds other boxes.
"""

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.onnx.operators import shape_as_tensor
from torchvision.models.detection.transform import GeneralizedRCNNTransform


class ExactTransform(GeneralizedRCNNTransform):  # type: ignore[misc]
    """torchvision's transform; only the computation of sides in an ONNX file differs."""

    def resize(self, image: Tensor, target: dict[str, Tensor] | None = None) -> tuple[Tensor, dict[str, Tensor] | None]:
        """An image (3, H, W) and its target, resized for the network."""
        if not torch.onnx.is_in_onnx_export():
            return super().resize(image, target)
        size = sides_for_network(image, self.min_size[-1], self.max_size, rounded=False)
        return F.interpolate(image[None], size=size, mode="bilinear", align_corners=False)[0], target


def exact_transform(transform: GeneralizedRCNNTransform) -> ExactTransform:
    """Convert a transform to one with exact sides in ONNX."""
    return ExactTransform(
        transform.min_size,
        transform.max_size,
        transform.image_mean,
        transform.image_std,
        size_divisible=transform.size_divisible,
    )


def sides_for_network(image: Tensor, shorter: int, longest: int, *, rounded: bool) -> list[int]:
    """The height and width to which to resize an image.

    Args:
        image: (…, H, W).
        shorter: the wanted shorter side in pixels.
        longest: the limit of the longer side, which takes precedence.
        rounded: round to the nearest pixel, as mmdetection does; otherwise round down, as torchvision does.
    """
    offset = 0.5 if rounded else 0.0
    if torch.onnx.is_in_onnx_export():
        sides = shape_as_tensor(image)[-2:].double()
        # With a Python number here, the division by a tensor would be exported as a float32 reciprocal.
        wanted = torch.tensor([shorter, longest], dtype=torch.float64)
        factor = (wanted / torch.stack([sides.min(), sides.max()])).min()
        return list((sides * factor + offset).floor().clamp(min=1).long().unbind())  # type: ignore[arg-type]
    height, width = image.shape[-2:]
    scale = min(longest / max(height, width), shorter / min(height, width))
    return [max(int(side * scale + offset), 1) for side in (height, width)]
