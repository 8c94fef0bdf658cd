"""`Judge`: scores against the training images, whose features are computed once."""

from collections.abc import Iterable

import torch
from torch import Tensor

from sase_attn.spatially_adaptive.synthesis.extractors import load_extractor
from sase_attn.spatially_adaptive.synthesis.images import TrainingImages
from sase_attn.spatially_adaptive.synthesis.scores import NEIGHBOURS, Scores, nearest, score


class Judge:
    """Computes scores of generated images with one extractor.

    Args:
        images: the training images.
        extractor, weights: see `load_extractor`.
        device: the device to compute features on.

    Raises:
        ImportError, OSError, ValueError: see `load_extractor`.
    """

    def __init__(self, images: TrainingImages, extractor: str, weights: str | None, device: torch.device) -> None:
        if len(images.pixels) <= NEIGHBOURS:
            raise ValueError(
                f"metrics: wanted at least {NEIGHBOURS + 1} images, got {len(images.pixels)}; give more, or train "
                "without them (--score-images 0)"
            )
        self.name, self._features = extractor, load_extractor(extractor, weights, device)
        self._images = self._features(images.pixels)
        self._mirrored = self._features(images.pixels.flip(3))

    def score(self, made: Iterable[Tensor], *, fid: bool = False) -> Scores:
        """Scores of batches of uint8 images. Raises ValueError for fewer than 4 images."""
        return score(
            torch.cat([self._features(batch) for batch in made]), self._images, self._mirrored, self.name, fid=fid
        )

    def nearest(self, made: Tensor) -> Tensor:
        """For each uint8 image, the index of the nearest training image, mirrored or not."""
        return nearest(self._features(made), self._images, self._mirrored)
