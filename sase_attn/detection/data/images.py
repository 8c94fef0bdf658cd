"""`DetectionImages`: annotated images for torchvision's detectors, each determined by (seed, epoch, index)."""

from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional as transforms

from sase_attn.detection.data.coco_set import CocoSet
from sase_attn.detection.data.read_coco import size_differs
from sase_attn.training.data.image_file import UnreadableImageError, read_image
from sase_attn.training.data.order import seeded_generator

Target = dict[str, Tensor]
Key = tuple[int, int]
Sample = tuple[Tensor | str, Target, int]


class DetectionImages(Dataset[Sample]):
    """A data set of images, uint8 (3, height, width), with targets; its keys are (epoch, index).

    A target has `boxes` (x1, y1, x2, y2; float32 (N, 4)), `labels` (int64 (N,), from 1), `image_id` (int64, the id in
    the annotation file) and, if masks were read, `masks` (uint8 (N, height, width)). Crowds are left out, so that a
    detector may learn them as background; an image without other objects has N = 0. If a file cannot be read, or has
    another size than the annotations say, a text with the reason replaces the image.

    Args:
        coco: the annotated images.
        seed: seed of the flips.
        flip: share of the images that are mirrored.
    """

    def __init__(self, coco: CocoSet, *, seed: int = 0, flip: float = 0.0) -> None:
        self.coco, self._seed, self._flip = coco, seed, flip
        self._has_masks = len(coco) > 0 and coco.objects[0].counts is not None

    def __len__(self) -> int:
        return len(self.coco)

    def __getitem__(self, key: Key) -> Sample:
        epoch, place = key
        record = self.coco.images[place]
        try:
            image = read_image(record.path)
            if image.size != (record.width, record.height):
                raise UnreadableImageError(size_differs(image.size, (record.width, record.height)))
        except UnreadableImageError as error:
            return str(error), {}, place
        pixels, target = transforms.pil_to_tensor(image), self._target(place, record.id)
        if self._flip and float(torch.rand((), generator=seeded_generator(self._seed, epoch, place))) < self._flip:
            return *mirrored(pixels, target), place
        return pixels, target, place

    def _target(self, place: int, image_id: int) -> Target:
        objects = self.coco.objects[place].without_crowds()
        labels = torch.from_numpy(objects.labels.copy())
        target = {"boxes": objects.boxes, "labels": labels, "image_id": torch.tensor(image_id)}
        return target | {"masks": objects.masks} if self._has_masks else target


def mirrored(pixels: Tensor, target: Target) -> tuple[Tensor, Target]:
    """Mirror an image (…, width) and its target horizontally."""
    x1, y1, x2, y2 = target["boxes"].unbind(1)
    width = pixels.shape[-1]
    flipped = target | {"boxes": torch.stack([width - x2, y1, width - x1, y2], 1)}
    if "masks" in target:
        flipped["masks"] = target["masks"].flip(-1)
    return pixels.flip(-1), flipped


def collate(samples: list[Sample]) -> tuple[list[Tensor], list[Target], dict[int, str]]:
    """Make a batch: the images that could be read, their targets, and the indices of broken ones with reasons."""
    good: list[tuple[Any, Target]] = [(image, target) for image, target, _ in samples if isinstance(image, Tensor)]
    broken = {place: image for image, _, place in samples if isinstance(image, str)}
    return [image for image, _ in good], [target for _, target in good], broken
