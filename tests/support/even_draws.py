"""Random draws that depend on distribution and shape only, to compare values that were drawn in different orders."""

from contextlib import ExitStack, contextmanager
from functools import cache
from unittest.mock import patch

import torch


@contextmanager
def even_draws():
    """Within the context, uniform and normal draws return the quantiles of their distribution, in order."""
    randn = torch.randn

    def uniform_(tensor, low=0.0, high=1.0, generator=None):
        return _filled(tensor, _quantiles(tensor.numel()) * (high - low) + low)

    def normal_(tensor, mean=0.0, std=1.0, generator=None):
        return _filled(tensor, torch.special.ndtri(_quantiles(tensor.numel())) * std + mean)

    with ExitStack() as patches:
        patches.enter_context(patch.object(torch.Tensor, "uniform_", uniform_))
        patches.enter_context(patch.object(torch.Tensor, "normal_", normal_))
        patches.enter_context(patch.object(torch, "randn", lambda *args, **options: normal_(randn(*args, **options))))
        yield


@cache
def _quantiles(count):
    return (torch.arange(count, dtype=torch.float64, device="cpu") + 0.5) / max(count, 1)


@torch.no_grad()
def _filled(tensor, values):
    return tensor if tensor.is_meta else tensor.copy_(values.view(tensor.shape))
