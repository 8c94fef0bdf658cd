"""∇²_{α,w} L · v: how the gradient of alpha changes along a direction of the weights, in two ways.

A central difference takes two gradients of alpha. The exact derivative takes forward mode over reverse mode, which
needs the definition of every operation and costs a few times as much. Both leave weights and buffers as they were.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp

from sase_attn.search.restore import restored

HVP = ("fd", "exact")


def finite_difference(
    loss: Callable[[], Tensor], alpha: Tensor, weights: Sequence[Tensor], direction: Sequence[Tensor], *, radius: float
) -> Tensor:
    """∇²_{α,w} L · v from the gradients of alpha at w ± εv, ε = radius/‖v‖; its error is of the order of radius².

    Args:
        loss: computes L at the weights of the moment.
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
    images: Tensor,
    loss: Callable[[Tensor], Tensor],
    alpha: str,
    weights: Sequence[str],
    direction: Sequence[Tensor],
) -> Tensor:
    """∇²_{α,w} L · v as the forward-mode derivative of ∇_α L.

    Not the other way round: reverse over forward mode is wrong through batch norm in torch 2.13 and 2.15.

    Args:
        model: a network with these parameters.
        images: what it is called with.
        loss: of its output.
        alpha: the name of a parameter, whose shape is that of the result.
        weights: names of w.
        direction: v, of the shapes of w.
    """
    parameters, buffers = dict(model.named_parameters()), dict(model.named_buffers())

    def value(alpha_value: Tensor, weight_values: tuple[Tensor, ...]) -> Tensor:
        copies = {name: buffer.clone() for name, buffer in buffers.items()}  # batch norm writes into them
        values = {alpha: alpha_value, **dict(zip(weights, weight_values, strict=True)), **copies}
        return loss(functional_call(model, values, (images,)))

    def gradient(*weight_values: Tensor) -> Tensor:
        result: Tensor = grad(value)(parameters[alpha].detach(), weight_values)
        return result

    start = tuple(parameters[name].detach() for name in weights)
    product: Tensor = jvp(gradient, start, tuple(direction))[1]
    return product.detach()


@contextmanager
def _frozen(weights: Sequence[Tensor]) -> Iterator[None]:
    """Without gradients of the weights, which the finite difference does not need."""
    for weight in weights:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for weight in weights:
            weight.requires_grad_(True)
