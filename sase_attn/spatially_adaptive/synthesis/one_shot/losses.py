"""The loss of the networks of a scale: Wasserstein distance with a gradient penalty, WGAN-GP, arXiv 1704.00028."""

import torch
from torch import Tensor, nn


def gradient_penalty(critic: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
    """Mean of (‖∂critic/∂x‖ − 1)² at a random mixture x of a real and a generated image; the norm is over the channels.

    The norm is taken at each pixel, as in SinGAN's code; WGAN-GP itself takes it over the whole image.
    """
    part = torch.rand(1, device=real.device)
    mixture = torch.lerp(fake.detach(), real, part).requires_grad_()
    scores = critic(mixture)
    (gradient,) = torch.autograd.grad(scores.sum(), mixture, create_graph=True)
    return (torch.linalg.vector_norm(gradient, dim=1) - 1).square().mean()
