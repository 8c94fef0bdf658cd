"""The running average of the generator, by timm's; its images are better than those of the trained generator itself."""

import torch
from timm.utils import ModelEmaV3

from sase_attn.spatially_adaptive.synthesis.generator import Generator
from sase_attn.spatially_adaptive.synthesis.layers import power_vectors


class Average:
    """A running average of a generator's weights and of its batch norms' statistics.

    The decay grows from 0 with the steps, up to `decay`. The vectors of the spectral norm are copied, not averaged.

    Args:
        generator: the generator that is trained; the average starts as its copy.
        decay: the largest decay.
    """

    def __init__(self, generator: Generator, decay: float) -> None:
        self._ema = ModelEmaV3(generator, decay=decay, use_warmup=True)
        self._ema.module.requires_grad_(False)

    @property
    def generator(self) -> Generator:
        """The averaged generator, in eval mode."""
        found = self._ema.module
        assert isinstance(found, Generator)
        return found

    @torch.no_grad()
    def update(self, generator: Generator, step: int) -> None:
        """Update the average with the weights after a step; the first step is 1."""
        self._ema.update(generator, step + 1)
        own = dict(self.generator.named_buffers())
        for name, buffer in power_vectors(generator):
            own[name].copy_(buffer)
