"""How near made images are to the images that were learned from, and whether they are copies of them.

At a hundred images unbiased KID comes first: its mean does not depend on how many there are. FID does, and so stands
beside a floor of its own: what other images of the same folder get. Precision is the share of made images that lie
among the real ones, recall the share of real ones that lie among the made ones. The formulas are torch-fidelity's.
"""

import importlib
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sase_attn.spatially_adaptive.synthesis.extractors import NEEDED

NEIGHBOURS = 3  # of precision and recall
COPY = 0.5  # a made image this much nearer than real images are to each other is suspected to be a copy
_FID, _KID, _KID_STD = "frechet_inception_distance", "kernel_inception_distance_mean", "kernel_inception_distance_std"


@dataclass(frozen=True)
class Scores:
    """Scores of generated images against the training images, in an extractor's features.

    `kid` is unbiased; `spread` is the made images' standard deviation over the real ones', in all features; `nearest`
    is the median distance to the nearest real image or its mirror image, over the real images' own to the nearest
    other; `copies` is the share of made images for which that is below `COPY`: copies, or images without detail, which
    are near to all. `fid` is of `fid_images` made against
    as many real images, and `fid_floor` of as many other real ones against these.
    """

    extractor: str
    made: int
    images: int
    kid: float
    kid_std: float
    precision: float
    recall: float
    spread: float
    nearest: float
    copies: float
    fid: float | None = None
    fid_floor: float | None = None
    fid_images: int = 0

    def sentences(self) -> list[str]:
        """For people; FID with the reason why it says little."""
        lines = [
            f"against the {self.images} training images, by {self.extractor}, {self.made} made images:",
            f"  KID {self.kid:.4f} ± {self.kid_std:.4f} (unbiased; 0 is equal)",
            f"  precision {self.precision:.2f}, recall {self.recall:.2f}, spread {self.spread:.2f} of the images'",
            f"  nearest training image at {self.nearest:.2f} of the distance between training images; "
            f"below {COPY}, as copies are: {100 * self.copies:.0f} %",
        ]
        if self.fid is not None and self.fid_floor is not None:
            lines.append(
                f"  FID {self.fid:.1f}, where other training images get {self.fid_floor:.1f}: {self.fid_images} images "
                "against as many say that little, for FID falls with the number of images"
            )
        return lines


def score(
    made: Tensor, images: Tensor, mirrored: Tensor, extractor: str, *, fid: bool = False, seed: int = 0
) -> Scores:
    """Scores from features.

    Args:
        made: features (N ≥ 4, D) of made images.
        images, mirrored: of the training images, and of their mirror images (M ≥ 4, D).
        extractor: its name.
        fid: also FID, which takes seconds.
        seed: of the draw of KID's subsets and of FID's halves.

    Raises:
        ValueError: fewer than 4 of either. ImportError: torch-fidelity is not installed.
    """
    if min(len(made), len(images)) <= NEIGHBOURS:
        raise ValueError(
            f"metrics: wanted at least {NEIGHBOURS + 1} made and {NEIGHBOURS + 1} training images, "
            f"got {len(made)} and {len(images)}"
        )
    kid = _kid(made, images, seed)
    precise = _fidelity("prc").prc_features_to_metric(made, images, prc_neighborhood=NEIGHBOURS, verbose=False)
    to_images = torch.cdist(made, torch.cat([images, mirrored])).amin(dim=1)
    between = torch.cdist(images, images).fill_diagonal_(float("inf")).amin(dim=1).median()
    relative = to_images / between
    half = min(len(made), len(images) // 2)
    found = _fids(made, images, half, seed) if fid and half >= 2 else (None, None)
    return Scores(
        extractor=extractor,
        made=len(made),
        images=len(images),
        kid=kid[0],
        kid_std=kid[1],
        precision=float(precise["precision"]),
        recall=float(precise["recall"]),
        spread=float((made.var(dim=0).sum() / images.var(dim=0).sum()).sqrt()),
        nearest=float(relative.median()),
        copies=float((relative < COPY).float().mean()),
        fid=found[0],
        fid_floor=found[1],
        fid_images=0 if found[0] is None else half,
    )


def nearest(made: Tensor, images: Tensor, mirrored: Tensor) -> Tensor:
    """For each made image the place of the nearest training image, mirrored or not."""
    both = torch.minimum(torch.cdist(made, images), torch.cdist(made, mirrored))
    return both.argmin(dim=1)


def _kid(made: Tensor, images: Tensor, seed: int) -> tuple[float, float]:
    """Mean and deviation over subsets; where there are as many of both, all of them are the one subset."""
    size = min(len(made), len(images), 1000)
    subsets = 1 if len(made) == len(images) == size else 100
    found = _fidelity("kid").kid_features_to_metric(
        made, images, kid_subsets=subsets, kid_subset_size=size, rng_seed=seed, verbose=False
    )
    return float(found[_KID]), float(found[_KID_STD])


def _fids(made: Tensor, images: Tensor, half: int, seed: int) -> tuple[float, float]:
    """FID of made images, and of other real ones, against one half of the real images."""
    fidelity = _fidelity("fid")
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    parts = (images[order[:half]], made[:half], images[order[half : 2 * half]])
    real, ours, others = (fidelity.fid_features_to_statistics(part.double()) for part in parts)
    found = [float(fidelity.fid_statistics_to_metric(part, real, verbose=False)[_FID]) for part in (ours, others)]
    return found[0], found[1]


def _fidelity(metric: str) -> Any:
    try:
        return importlib.import_module(f"torch_fidelity.metric_{metric}")
    except ImportError:
        raise ImportError(NEEDED) from None
