"""How close generated images are to the training images, and whether they are copies of them.

With a hundred images, unbiased KID is the main score, because its mean does not depend on the number of images. FID
does, so it is reported with a floor: the FID of other images from the same folder. Precision is the share of generated
images that lie among the real ones, recall the share of real ones that lie among the generated ones. The formulas are
torch-fidelity's.
"""

import importlib
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sase_attn.spatially_adaptive.synthesis.extractors import NEEDED

NEIGHBOURS = 3  # number of neighbours for precision and recall
COPY = 0.5  # an image below this share of the distance between real images is suspected to be a copy
_FID, _KID, _KID_STD = "frechet_inception_distance", "kernel_inception_distance_mean", "kernel_inception_distance_std"


@dataclass(frozen=True)
class Scores:
    """Scores of generated images against the training images, in an extractor's features.

    `kid` is unbiased. `spread` is the standard deviation of generated images divided by that of real ones, over all
    features. `nearest` is the median distance to the nearest real image or its mirror image, divided by the distance
    between real images and their nearest others. `copies` is the share of generated images for which this ratio is
    below `COPY`: they are copies, or images without detail, which are near to all. `fid` compares `fid_images`
    generated images with as many real ones, and `fid_floor` as many other real images with these.
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
        """The scores as text; FID comes with the reason why it says little."""
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
    """Compute scores from features.

    Args:
        made: features (N ≥ 4, D) of generated images.
        images, mirrored: features (M ≥ 4, D) of the training images, and of their mirror images.
        extractor: name of the extractor.
        fid: also compute FID, which takes seconds.
        seed: seed of the draw of KID's subsets and of FID's halves.

    Raises:
        ValueError: there are fewer than 4 images of a kind. ImportError: torch-fidelity is not installed.
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
    """For each generated image, the index of the nearest training image, mirrored or not."""
    both = torch.minimum(torch.cdist(made, images), torch.cdist(made, mirrored))
    return both.argmin(dim=1)


def _kid(made: Tensor, images: Tensor, seed: int) -> tuple[float, float]:
    """Mean and standard deviation of KID over subsets; with equal numbers of both, one subset has all images."""
    size = min(len(made), len(images), 1000)
    subsets = 1 if len(made) == len(images) == size else 100
    found = _fidelity("kid").kid_features_to_metric(
        made, images, kid_subsets=subsets, kid_subset_size=size, rng_seed=seed, verbose=False
    )
    return float(found[_KID]), float(found[_KID_STD])


def _fids(made: Tensor, images: Tensor, half: int, seed: int) -> tuple[float, float]:
    """FID of generated images, and of the other half of the real images, against one half of the real images."""
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
