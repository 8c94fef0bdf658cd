"""The losses of the two networks: a hinge loss with random margins, after FastGAN's paper."""

import torch
from torch import Tensor
from torch.nn import functional


def hinge(logits: Tensor, *, real: bool) -> Tensor:
    """Mean of max(0, m ∓ logits) with a margin m from U(0.8, 1) for each logit; minus for real images."""
    margin = 0.8 + 0.2 * torch.rand_like(logits)
    return functional.relu(margin - logits if real else margin + logits).mean()


def generator_loss(logits: Tensor) -> Tensor:
    """Minus the mean logit of generated images."""
    return -logits.mean()
