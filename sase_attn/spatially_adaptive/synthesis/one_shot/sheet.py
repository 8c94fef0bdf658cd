"""Pictures of several sizes on one sheet, and pictures as PNG files."""

import io
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from sase_attn.files import write_atomically
from sase_attn.spatially_adaptive.synthesis.one_shot.model import OneShotModel
from sase_attn.spatially_adaptive.synthesis.one_shot.pyramid import as_pixels

GAP = 4  # white pixels between two pictures


def sheet_of(rows: Sequence[Sequence[Tensor]]) -> Tensor:
    """Rows of uint8 pictures (3, H, W) of any sizes as one, white between and beside them."""
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
    """What was learned, at a look: the image, it rebuilt, samples; below wide ones, and one in its layout."""
    height, width = model.sizes[-1]
    first = [model.image.cpu(), as_pixels(model.reconstruct())[0], *model.sample(seed=seed, count=count)]
    wide = model.sample(height, round(1.8 * width), seed, 2)
    return sheet_of([first, [*wide, *model.sample(height, width, seed, 1, start_scale=min(1, len(model.sizes) - 1))]])


def save_png(image: Tensor, path: Path, enlarge: int = 1) -> None:
    """Write a uint8 (3, H, W) as a PNG, atomically, each pixel as a square of `enlarge`. Raises OSError."""
    content = io.BytesIO()
    picture = Image.fromarray(image.permute(1, 2, 0).numpy())
    picture = picture.resize((picture.width * enlarge, picture.height * enlarge), Image.Resampling.NEAREST)
    picture.save(content, "PNG")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content.getvalue())
