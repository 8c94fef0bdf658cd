"""Penalties on alpha, which the search adds to the validation loss."""

from torch import Tensor

from sase_attn.search.supernet.architecture import Architecture


def beta_penalty(architecture: Architecture) -> Tensor:
    """Mean over edges of log Σ exp(alpha), as in Beta-DARTS (Ye et al., arXiv 2203.01665): it keeps alphas small.

    It is meant to replace alpha's weight decay; set `alpha_weight_decay` to 0 with it.
    """
    return architecture.alpha.masked_fill(~architecture.mask, float("-inf")).logsumexp(-1).mean()


def entropy_penalty(architecture: Architecture) -> Tensor:
    """Mean over edges of the entropy of the weights over its largest value: it drives alpha to decide."""
    return architecture.entropy().mean()


def penalty(architecture: Architecture, *, beta: float, entropy: float) -> Tensor:
    """beta · `beta_penalty` + entropy · `entropy_penalty`, a scalar; a strength of 0 leaves a term out."""
    total = architecture.alpha.new_zeros(()) + 0 * architecture.alpha.sum()
    if beta:
        total = total + beta * beta_penalty(architecture)
    if entropy:
        total = total + entropy * entropy_penalty(architecture)
    return total
