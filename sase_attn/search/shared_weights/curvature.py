"""The largest eigenvalue of the Hessian of the validation loss in alpha, and the early stop that watches it.

RobustDARTS (Zela et al., arXiv 1909.09656): where that eigenvalue grows, the architecture found generalises worse. The
search then stops and returns the architecture from before. Deviations: we compute it by power iteration on finite
differences of the gradient, not from the full Hessian; and it is the eigenvalue of largest magnitude.
"""

from collections.abc import Callable, Sequence
from statistics import mean

import torch
from torch import Tensor, nn

from sase_attn.search.shared_weights.restore import restored

WINDOW = 5
"""Number of epochs over which eigenvalues are averaged; a search that stops goes back by as many epochs."""


def largest_eigenvalue(
    gradient: Callable[[], Tensor], alpha: nn.Parameter, mask: Tensor, *, iterations: int, radius: float = 1e-2
) -> float:
    """The eigenvalue of largest magnitude of the Hessian in alpha, by power iteration from a fixed direction.

    Args:
        gradient: computes the gradient of the loss in alpha, at the present alpha.
        alpha: (6, K); it is moved by `radius` meanwhile, and restored.
        mask: (6, K), false for padding of alpha.
        iterations: the number of iterations, which compute two gradients each.
        radius: the radius of the central difference of gradients that approximates a product with the Hessian.
    """
    generator = torch.Generator().manual_seed(0)
    direction = torch.randn(alpha.shape, generator=generator, dtype=torch.float64).to(alpha) * mask
    value = 0.0
    with restored([alpha]) as (start,):
        for _ in range(iterations):
            direction = direction / direction.norm()
            sides = []
            for sign in (radius, -radius):
                with torch.no_grad():
                    alpha.copy_(start + sign * direction)
                sides.append(gradient())
            product = (sides[0] - sides[1]) / (2 * radius) * mask
            value = float((direction * product).sum())
            if not product.norm() > 0:
                break
            direction = product
    return value


def has_grown(values: Sequence[float], ratio: float) -> bool:
    """Whether the mean of the last `WINDOW` eigenvalues exceeds that of the `WINDOW` before: old / new < ratio."""
    if len(values) < 2 * WINDOW:
        return False
    old, new = mean(values[-2 * WINDOW : -WINDOW]), mean(values[-WINDOW:])
    return new > 0 and old / new < ratio
