"""∇²_{α,w} L · v: how the gradient of alpha changes along a direction of the weights, in two ways.

The exact derivative is a gradient of a gradient, for which every operation must be evaluated by its plain definition. A
central difference needs two gradients of alpha; a step with it takes about 60 to 70 % of the time and a sixth of the
memory. Both leave weights and buffers as they were.

On a smooth network the error of the difference is O(radius²). Networks that are searched are not smooth: ReLUs and
maxima have kinks, where the gradient of alpha jumps. The difference divides each jump that it crosses by the radius. A
smaller radius crosses fewer of them, but each weighs more, so no radius is safe: `benchmarks/search_gradient.py`.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from sase_attn.kernels import backend
from sase_attn.search.shared_weights.restore import restored
from sase_attn.search.supernet.block import reference_mode
from sase_attn.statistics import twice_differentiable


def finite_difference(
    loss: Callable[[], Tensor], alpha: Tensor, weights: Sequence[Tensor], direction: Sequence[Tensor], *, radius: float
) -> Tensor:
    """∇²_{α,w} L · v from the gradients of alpha at w ± εv, ε = radius/‖v‖.

    The error is O(radius²) where L is smooth between these, which it is not with ReLUs and maxima.

    Args:
        loss: computes L at the present weights.
        alpha: any shape, which is that of the result.
        weights, direction: w and v, of the same shapes.
        radius: how far the weights move in all, as a norm.
    """
    norm = torch.stack(torch._foreach_norm(list(direction))).norm()
    if norm == 0:
        return torch.zeros_like(alpha)
    epsilon = (radius / norm).item()
    sides = []
    with restored(weights) as start:
        for sign in (epsilon, -epsilon):
            with torch.no_grad():
                for weight, middle, d in zip(weights, start, direction, strict=True):
                    weight.copy_(torch.add(middle, d, alpha=sign))
            with _frozen(weights):
                (side,) = torch.autograd.grad(loss(), [alpha])
            sides.append(side)
    return (sides[0] - sides[1]) / (2 * epsilon)


def exact(
    model: nn.Module,
    loss: Callable[[], Tensor],
    alpha: Tensor,
    weights: Sequence[Tensor],
    direction: Sequence[Tensor],
) -> Tensor:
    """∇²_{α,w} L · v as the gradient in α of ∇_w L · v.

    Blocks are evaluated operation by operation and without kernels, whose gradients cannot be differentiated again. The
    result is finite also behind norms whose weight is zero, where maps are zero.

    Args:
        model: the network of the loss L.
        loss: computes L.
        alpha: any shape, which is that of the result.
        weights, direction: w and v, of the same shapes.
    """
    with restored(model.buffers()), reference_mode(model), backend("torch"), twice_differentiable():
        slopes = torch.autograd.grad(loss(), weights, create_graph=True, materialize_grads=True)
        slope = torch.stack([(g * d).sum() for g, d in zip(slopes, direction, strict=True)]).sum()
        product: Tensor = torch.autograd.grad(slope, [alpha], materialize_grads=True)[0]
    return product


@contextmanager
def _frozen(weights: Sequence[Tensor]) -> Iterator[None]:
    """A context in which weights get no gradients, as the finite difference does not need them."""
    for weight in weights:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for weight in weights:
            weight.requires_grad_(True)
