"""`draw_epoch`: the images of an epoch, if rare classes are to be drawn more often than by their number of images."""

import torch
from torch import Tensor

SAMPLINGS = {"shuffle": 1.0, "sqrt": 0.5, "balanced": 0.0}
"""The share of a class in an epoch is proportional to this power of the number of its images."""


def draw_epoch(targets: Tensor, sampling: str, generator: torch.Generator) -> Tensor:
    """Draw the indices of the images of an epoch, as many as there are images, in random order.

    The number of images of a class is its share, randomly rounded up or down. Within a class no image is drawn twice
    before all have been drawn once.

    Args:
        targets: the class of each image, int64 (N,).
        sampling: a name of `SAMPLINGS`.
        generator: the source of random numbers.

    Returns:
        int64 (N,).
    """
    if sampling == "shuffle":
        return torch.randperm(len(targets), generator=generator)
    counts = torch.bincount(targets)
    shares = torch.where(counts > 0, counts.double() ** SAMPLINGS[sampling], 0.0)
    ends = len(targets) * shares.cumsum(0) / shares.sum()
    ends[-1] = len(targets)
    offset = torch.rand(1, generator=generator, dtype=torch.float64)
    quotas = (ends + offset).floor().long().diff(prepend=torch.zeros(1, dtype=torch.int64))
    by_class = targets.argsort(stable=True).split(counts.tolist())
    drawn = []
    for members, quota in zip(by_class, quotas.tolist(), strict=True):
        if quota:
            order = members[torch.randperm(len(members), generator=generator)]
            drawn.append(order[torch.arange(quota) % len(order)])
    places = torch.cat(drawn)
    return places[torch.randperm(len(places), generator=generator)]
