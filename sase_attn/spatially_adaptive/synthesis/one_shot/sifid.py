"""SIFID: the Fréchet distance between the features of the patches of two images. SinGAN, arXiv 1905.01164.

Values cannot be compared with published ones: SinGAN's text and its code use different layers, and with few images one
outlier moves the mean far. The name of extractor and layer is part of every result.
"""

import importlib
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sase_attn.spatially_adaptive.synthesis.extractors import NEEDED
from sase_attn.spatially_adaptive.synthesis.one_shot.features import PatchFeatures
from sase_attn.spatially_adaptive.synthesis.one_shot.model import OneShotModel


@dataclass(frozen=True)
class SIFID:
    """Mean, standard deviation, smallest and largest value over samples, and the extractor they were measured with.

    `floor` is the value of the learned image's mirror image, which has the right patches in other places.
    """

    extractor: str
    layer: str
    samples: int
    mean: float
    deviation: float
    lowest: float
    highest: float
    floor: float

    def __str__(self) -> str:
        return (
            f"SIFID {self.mean:.4f} ± {self.deviation:.4f} ({self.lowest:.4f} to {self.highest:.4f}) of {self.samples} "
            f"samples, by {self.extractor}, {self.layer}; the image's own mirror image gets {self.floor:.4f}"
        )


def distance(first: Tensor, second: Tensor) -> float:
    """The Fréchet distance of two sets of features (positions, D), by torch-fidelity.

    Raises:
        ValueError: a set has fewer than two positions. ImportError: torch-fidelity is not installed.
    """
    if min(len(first), len(second)) < 2:
        raise ValueError(f"SIFID wants at least two positions of each image, got {len(first)} and {len(second)}")
    try:
        fidelity: Any = importlib.import_module("torch_fidelity.metric_fid")
    except ImportError:
        raise ImportError(NEEDED) from None
    ours, theirs = (fidelity.fid_features_to_statistics(part.double().cpu()) for part in (first, second))
    return float(fidelity.fid_statistics_to_metric(ours, theirs, verbose=False)["frechet_inception_distance"])


def sifid(model: OneShotModel, features: PatchFeatures, samples: int = 16, seed: int = 0) -> SIFID:
    """SIFID of samples in the image's own size against the learned image. Raises as `distance` does."""
    real = features(model.image.cpu())
    values = torch.tensor([distance(features(image), real) for image in model.sample(seed=seed, count=samples)])
    return SIFID(
        extractor=features.extractor,
        layer=features.layer,
        samples=samples,
        mean=float(values.mean()),
        deviation=float(values.std(correction=0)),
        lowest=float(values.min()),
        highest=float(values.max()),
        floor=distance(features(model.image.cpu().flip(2)), real),
    )
