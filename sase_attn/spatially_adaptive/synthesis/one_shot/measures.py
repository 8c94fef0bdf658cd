"""Measures of how well an image was learned: the error of its reconstruction, and how much samples vary."""

from dataclasses import dataclass

import torch

from sase_attn.spatially_adaptive.synthesis.one_shot.model import OneShotModel
from sase_attn.spatially_adaptive.synthesis.one_shot.pyramid import as_values


@dataclass(frozen=True)
class Measures:
    """Measures of a one-shot model, for values in [-1, 1], at the finest scale, in the mode in which samples are drawn.

    `reconstruction_rmse` is the error of the reconstructed image. `spread` is the standard deviation over samples,
    averaged over pixels and channels; near 0, all samples are alike. `deviation` is the standard deviation of the image
    over its pixels, averaged over channels: the spread of samples that have nothing of its layout.
    """

    reconstruction_rmse: float
    spread: float
    deviation: float
    samples: int

    def __str__(self) -> str:
        return (
            f"rebuilt to {self.reconstruction_rmse:.3f} (RMSE for values from -1 to 1); {self.samples} samples spread "
            f"by {self.spread:.3f}, the image itself by {self.deviation:.3f}"
        )


@torch.no_grad()
def measure(model: OneShotModel, samples: int = 16, seed: int = 0) -> Measures:
    """Measure a model on samples of the image's own size.

    Args:
        model: a model in eval mode, such as `load_one_shot` returns.
        samples: number of samples.
        seed: seed of their noise.
    """
    real = as_values(model.image).cpu()
    rebuilt = model.reconstruct().cpu()
    made = torch.cat([as_values(image) for image in model.sample(seed=seed, count=samples)])
    return Measures(
        reconstruction_rmse=float((rebuilt - real).square().mean().sqrt()),
        spread=float(made.std(0).mean()),
        deviation=float(real.flatten(2).std(2).mean()),
        samples=samples,
    )
