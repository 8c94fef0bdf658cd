"""Compare compiled, exported and traced forms with the eager module: in outputs, gradients and buffers."""

import copy
from collections.abc import Callable, Iterable

import torch
from tolerances import assert_close
from torch import Tensor, nn

from sase_attn import Genotype, genotypes

GENOTYPES = {
    **{name: str(genotype) for name, genotype in genotypes.items()},
    **{f"random {seed}": str(Genotype.random(seed)) for seed in (1, 4)},
    "random paper 2": str(Genotype.random(2, "paper")),
}
"""The published genotypes and some others, as inline strings."""

SIMPLE = (
    "channel_squeeze:gap,channel_gate:affine,channel_excite:affine,"
    "spatial_squeeze_input:gap,spatial_squeeze_gated:gap,spatial_excite:affine"
)
"""The genotype that is traced fastest, for tests in which the genotype does not matter."""


def step(module: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """The output of `module`, a network in any form, and the gradients of its sum of squares by name, without the
    prefixes that compilation adds."""
    marked = getattr(x, "_dynamo_dynamic_indices", ())  # `detach` drops these marks
    x = x.detach().requires_grad_()
    for dim in marked:
        torch._dynamo.mark_dynamic(x, dim)
    y = module(x)
    parameters = dict(module.named_parameters()) if isinstance(module, nn.Module) else {}
    grads = torch.autograd.grad(y.square().sum(), [x, *parameters.values()])
    names = ["input", *(name.replace("_orig_mod.", "") for name in parameters)]
    return y.detach(), dict(zip(names, grads, strict=True))


def assert_same_steps(
    module: nn.Module, eager: nn.Module, inputs: Iterable[Tensor], tolerance: float | None = None
) -> None:
    """Run both on the same inputs in turn, and check that outputs, gradients and buffers agree at every step.

    A gradient that is mere rounding error relative to the largest one, such as that of a bias before a norm, is not
    compared.
    """
    eager = copy.deepcopy(eager)
    for x in inputs:
        y, grads = step(module, x)
        expected, expected_grads = step(eager, x)
        assert_close(y, expected, tolerance=tolerance)
        assert grads.keys() == expected_grads.keys()
        largest = max(float(grad.abs().max()) for grad in expected_grads.values())
        rounding = 1e-12 * largest if y.dtype == torch.float64 else 0.0
        for name, grad in grads.items():
            if max(grad.abs().max(), expected_grads[name].abs().max()) > rounding:
                assert_close(grad, expected_grads[name], tolerance=tolerance)
        buffers = {name.replace("_orig_mod.", ""): value for name, value in module.named_buffers()}
        expected_buffers = dict(eager.named_buffers())
        assert buffers.keys() == expected_buffers.keys()
        for name, value in buffers.items():
            assert_close(value.double(), expected_buffers[name].double(), tolerance=tolerance)
