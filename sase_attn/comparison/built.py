"""`train_built`: train networks that a function makes, with initial weights that they share with the reference."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from torch import nn

from sase_attn.training import checkpoint
from sase_attn.training.initial_weights import start_alike
from sase_attn.training.recipes import Recipe
from sase_attn.training.result import TrainResult
from sase_attn.training.run import train

Build = Callable[[str], nn.Module]
"""Makes the network of a label."""


def train_built(
    runs: Mapping[tuple[str, int], tuple[Recipe, Path]],
    build: Build,
    reference: str,
    *,
    device: str | None,
    echo: Callable[[str], object],
) -> Iterator[TrainResult]:
    """Yield the results of runs, in their order. Interrupted runs are resumed, and finished ones are not repeated.

    Args:
        runs: recipe and folder of each run, by label and seed.
        build: makes the network of a label, with initial weights drawn from torch's generator, which has been seeded.
        reference: the label of the network from which the others copy the initial values of common tensors.
        device, echo: see `train`.

    Raises:
        ValueError: a network has no tensor in common with the reference. Otherwise as `train`.
    """
    for (label, seed), (recipe, folder) in runs.items():
        torch.manual_seed(seed)
        model = build(label)
        if label != reference:
            torch.manual_seed(seed)
            start_alike(model, build(reference))
        resume = (folder / checkpoint.NAME).exists()
        yield train(recipe, folder, resume=resume, model=model, device=device, echo=echo)
