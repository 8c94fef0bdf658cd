"""Mixed edges of a super-network by the implementation of this process: see `conftest.py`."""

import copy

import pytest
import torch
from inputs import draw, randomise
from kernel_cases import DOUBLE, STRICT, channels_last
from tolerances import TOLERANCES, assert_close
from torch import Tensor

from sase_attn import kernels
from sase_attn.search import SearchBlock, SearchSpace

pytestmark = STRICT


def mixed(dtype: torch.dtype = DOUBLE) -> tuple[SearchBlock, SearchBlock]:
    """The same block by its definition, to be called under `use("torch")`, and fast, with distinct alphas."""
    reference = randomise(SearchBlock(6, SearchSpace.get("release"), reference=True, dtype=dtype))
    assert isinstance(reference, SearchBlock)
    with torch.no_grad():
        reference.shared_architecture.alpha.copy_(draw(6, 7, seed=3))
    fast = copy.deepcopy(reference)
    fast.reference = False
    return reference, fast


def gradients(module: SearchBlock, x: Tensor, create_graph: bool = False) -> list[Tensor]:
    """The output for a map, and the gradients of its sum of squares."""
    y = module(x)
    leaves = [x, *(parameter for parameter in module.parameters() if parameter.requires_grad)]
    return [y, *torch.autograd.grad(y.square().sum(), leaves, create_graph=create_graph)]


@pytest.mark.parametrize("dtype", [DOUBLE, torch.float32], ids=str)
def test_mixed_edges(backend, dtype, calls):
    """In as many reads of the input as a block of one genotype."""
    reference, fast = mixed(dtype)
    # Of this map no gradient is the small sum of large terms, whose digits differ between versions of torch.
    x = channels_last(draw(2, 6, 5, 3, seed=3, dtype=dtype)).requires_grad_()
    with kernels.backend("torch"):
        expected = gradients(reference, x)
    with kernels.backend(backend), calls() as names:
        found = gradients(fast, x)
    assert names == ["reduce", "reduce", "gate", "sums", "weight_backward", "map_backward"]
    for value, wanted in zip(found, expected, strict=True):
        assert_close(value, wanted, tolerance=3 * TOLERANCES[dtype])


def test_gradients_of_gradients_of_mixed_edges(backend):
    found = []
    for choice, module in zip(("torch", backend), mixed(), strict=True):
        x = draw(2, 6, 5, 3, dtype=DOUBLE).requires_grad_()
        with kernels.backend(choice):
            _, *grads = gradients(module, x, create_graph=True)
            product = sum((g * draw(*g.shape, seed=i, dtype=DOUBLE)).sum() for i, g in enumerate(grads))
            found.append([*grads, *torch.autograd.grad(product, [x, module.shared_architecture.alpha])])
    for value, expected in zip(*found, strict=True):
        assert_close(value, expected)


def test_gradient_of_alpha_alone(backend):
    found = []
    for choice, module in zip(("torch", backend), mixed(), strict=True):
        module.requires_grad_(False).shared_architecture.alpha.requires_grad_()
        with kernels.backend(choice):
            y = module(draw(2, 6, 5, 3, dtype=DOUBLE))
            found += torch.autograd.grad(y.square().sum(), module.shared_architecture.alpha)
    assert_close(*found)
