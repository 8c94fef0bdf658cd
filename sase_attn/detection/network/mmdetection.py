"""mmdetection's geometry in torchvision's detectors, so that weights trained with versions 2 and 3 work unchanged.

With equal weights the two differ in the following; here each agrees with mmdetection's formulas up to float64 rounding:

- Anchors: torchvision rounds their corners to whole pixels, and spaces those of the last level by the ratio of the
  sizes of image and map (61 for 13 cells of 800 pixels); mmdetection neither rounds nor departs from the strides.
- Boxes: torchvision limits by how much a width grows, mmdetection also by how much it shrinks.
- RoIAlign: torchvision's corners are half a cell off (`aligned=False`), with 2 x 2 samples per bin; mmdetection's are
  aligned, with as many samples as the region has cells per bin. mmdetection's small constant for the choice of a level
  is inside the logarithm.
- Images: see `MmdetectionTransform`.

Some differences remain: torchvision drops boxes under 0.01 pixels at the end, which mmdetection keeps; it ranks
proposals before the sigmoid, not after it, which differs where the sigmoid saturates; and losses and random draws of
training are torchvision's.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import MultiScaleRoIAlign, roi_align

from sase_attn.detection.network.mmdetection_transform import MmdetectionTransform

_STRIDES = (4, 8, 16, 32, 64)
_FINEST = 56.0  # pixels; regions below twice this size belong to the first level
_INSIDE_LOG = 1e-6


def follow_mmdetection(model: FasterRCNN) -> None:
    """Replace the parts of a detector that differ from mmdetection's; its weights and their names do not change.

    Args:
        model: a model from `create_detector`, with maps at strides 4 to 32 and one more at 64.
    """
    anchors = model.rpn.anchor_generator
    model.rpn.anchor_generator = ExactAnchors(anchors.sizes, anchors.aspect_ratios)
    model.rpn.min_size = torch.finfo(torch.float32).tiny  # only boxes without area are dropped from the proposals
    for part in (model.rpn, model.roi_heads):
        part.box_coder = BoundedBoxCoder(part.box_coder.weights, part.box_coder.bbox_xform_clip)
    heads = model.roi_heads
    heads.box_roi_pool = AlignedPool(heads.box_roi_pool.featmap_names, heads.box_roi_pool.output_size, 0)
    if heads.has_mask():
        heads.mask_roi_pool = AlignedPool(heads.mask_roi_pool.featmap_names, heads.mask_roi_pool.output_size, 0)
    old = model.transform
    model.transform = MmdetectionTransform(
        old.min_size, old.max_size, old.image_mean, old.image_std, size_divisible=old.size_divisible
    )
    model.train(model.training)


class ExactAnchors(AnchorGenerator):  # type: ignore[misc]
    """Anchors of exactly their size and ratio, spaced by the strides 4 to 64."""

    def generate_anchors(
        self,
        scales: Sequence[int],
        aspect_ratios: Sequence[float],
        dtype: torch.dtype = torch.float32,
        device: torch.device | None = None,
    ) -> Tensor:
        """Corners around 0 for every ratio and size, in an outer loop over ratios: (ratios · sizes, 4)."""
        ratios = torch.tensor(aspect_ratios, dtype=torch.float64).sqrt()[:, None]
        sizes = torch.tensor(scales, dtype=torch.float64)[None, :]
        widths, heights = (sizes / ratios).flatten() / 2, (sizes * ratios).flatten() / 2
        return torch.stack([-widths, -heights, widths, heights], dim=1).to(dtype=dtype, device=device)

    def set_cell_anchors(self, dtype: torch.dtype, device: torch.device) -> None:
        """Keep the anchors of a cell in the type of the maps."""
        sized = zip(self.sizes, self.aspect_ratios, strict=True)
        self.cell_anchors = [self.generate_anchors(*each, dtype, device) for each in sized]

    def grid_anchors(self, grid_sizes: list[list[int]], strides: list[list[Tensor]]) -> list[Tensor]:
        """The anchors of every cell of every map."""
        fixed = [[stride, stride] for stride in _STRIDES[: len(grid_sizes)]]
        anchors: list[Tensor] = super().grid_anchors(grid_sizes, fixed)
        return anchors


class BoundedBoxCoder(BoxCoder):  # type: ignore[misc]
    """Decodes boxes from regressed differences; width and height change by a factor of at most 62.5 either way."""

    def decode_single(self, rel_codes: Tensor, boxes: Tensor) -> Tensor:
        """Convert differences (N, 4 · classes) from boxes (N, 4) to boxes."""
        bounds = [-math.inf, -math.inf, *(-self.bbox_xform_clip * weight for weight in self.weights[2:])]
        lowest = torch.tensor(bounds, dtype=rel_codes.dtype, device=rel_codes.device)
        bounded = torch.maximum(rel_codes.reshape(-1, 4), lowest).reshape(rel_codes.shape)
        decoded: Tensor = super().decode_single(bounded, boxes)
        return decoded


class AlignedPool(MultiScaleRoIAlign):  # type: ignore[misc]
    """RoIAlign, aligned and with as many samples as fit, on the map of stride 4 to 32 that suits a region's size."""

    def forward(
        self, x: Mapping[str, Tensor], boxes: Sequence[Tensor], image_shapes: Sequence[tuple[int, int]]
    ) -> Tensor:
        """Maps (regions, C, height, width) of the boxes (N, 4) of each image."""
        maps = [x[name] for name in self.featmap_names]
        regions = torch.cat(list(boxes))
        numbers = torch.cat([torch.full_like(each[:, :1], image) for image, each in enumerate(boxes)])
        regions = torch.cat([numbers, regions], dim=1)
        sizes = ((regions[:, 3] - regions[:, 1]) * (regions[:, 4] - regions[:, 2])).sqrt()
        levels = torch.log2(sizes / _FINEST + _INSIDE_LOG).floor().clamp(0, len(maps) - 1)
        pooled, places = [], []
        for level, each in enumerate(maps):
            places.append(torch.where(levels == level)[0])
            of_level = regions[places[-1]]
            pooled.append(roi_align(each, of_level, self.output_size, 1 / _STRIDES[level], 0, aligned=True))
        return torch.cat(pooled)[torch.argsort(torch.cat(places))]
