"""Which images an epoch draws where classes are to come more evenly than the images are: `draw_epoch`."""

import torch
from torch import Tensor

SAMPLINGS = {"shuffle": 1.0, "sqrt": 0.5, "balanced": 0.0}
"""The share of a class in an epoch goes with this power of the number of its images."""


def draw_epoch(targets: Tensor, sampling: str, generator: torch.Generator) -> Tensor:
    """The places of as many images as there are, in random order.

    Each class gets its share to one image, by chance the one below or the one above. Within a class every image comes
    as often as any other, to one: no image comes twice before all have come once.

    Args:
        targets: the class of each image, int64 (N,).
        sampling: a name of `SAMPLINGS`.
        generator: what is drawn is a function of its state.

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
