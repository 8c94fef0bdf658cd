"""Pictures of several sizes on one sheet, and the sheet that shows what a model has learned."""

from collections.abc import Sequence

import torch
from torch import Tensor

from sase_attn.spatially_adaptive.synthesis.one_shot.model import OneShotModel
from sase_attn.spatially_adaptive.synthesis.one_shot.pyramid import as_pixels

GAP = 4  # white pixels between two pictures


def sheet_of(rows: Sequence[Sequence[Tensor]]) -> Tensor:
    """Join rows of uint8 pictures (3, H, W) of any sizes into one picture, with white between and beside them."""
    lines = [_joined(row, along=2) for row in rows]
    return _joined(lines, along=1)


def _joined(parts: Sequence[Tensor], along: int) -> Tensor:
    across = 3 - along
    extent = max(part.shape[across] for part in parts)
    shape = [3, 0, 0]
    shape[along] = sum(part.shape[along] for part in parts) + GAP * (len(parts) - 1)
    shape[across] = extent
    whole, start = torch.full(shape, 255, dtype=torch.uint8), 0
    for part in parts:
        place = whole.narrow(along, start, part.shape[along]).narrow(across, 0, part.shape[across])
        place.copy_(part)
        start += part.shape[along] + GAP
    return whole


@torch.no_grad()
def model_sheet(model: OneShotModel, seed: int = 0, count: int = 3) -> Tensor:
    """An overview of a model: the image, its reconstruction and samples; below, wide samples, and one in its layout."""
    height, width = model.sizes[-1]
    first = [model.image.cpu(), as_pixels(model.reconstruct())[0], *model.sample(seed=seed, count=count)]
    wide = model.sample(height, round(1.8 * width), seed, 2)
    return sheet_of([first, [*wide, *model.sample(height, width, seed, 1, start_scale=min(1, len(model.sizes) - 1))]])
