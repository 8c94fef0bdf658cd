"""The two optimizers of a search: SGD for the weights, Adam for alpha, as in DARTS and the SASE release."""

import torch
from torch import nn

from sase_attn.search.config import SearchConfig


def create_optimizers(
    config: SearchConfig, model: nn.Module, alpha: nn.Parameter
) -> tuple[torch.optim.SGD, torch.optim.Adam]:
    """SGD over all parameters of a network that require gradients, except for alpha, and Adam over alpha."""
    weights = [p for p in model.parameters() if p is not alpha and p.requires_grad]
    return (
        torch.optim.SGD(weights, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay),
        torch.optim.Adam(
            [alpha],
            lr=config.alpha_lr,
            betas=(config.alpha_betas[0], config.alpha_betas[1]),
            weight_decay=config.alpha_weight_decay,
        ),
    )
