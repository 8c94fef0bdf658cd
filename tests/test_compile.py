"""torch.compile: one graph, no recompiles over sizes, eager's values and gradients."""

import copy

import pytest
import torch
from inputs import OPS, draw, input_shape, randomise
from tolerances import assert_close

from sase_attn import Genotype, SASEBlock, create_op

SIZES = [(2, 5, 6), (3, 9, 4), (4, 7, 8), (6, 12, 11)]


def step(module, x):
    """Output and every gradient."""
    x = x.clone().requires_grad_()
    y = module(x)
    parameters = [p for _, p in sorted(module.named_parameters())]
    return [y.detach(), *torch.autograd.grad(y.square().sum(), [x, *parameters])]


@torch._dynamo.config.patch(error_on_recompile=True)
def check(module, make_input, backend):
    torch._dynamo.reset()
    twin = copy.deepcopy(module)
    compiled = torch.compile(twin, fullgraph=True, dynamic=True, backend=backend)
    for size in SIZES:
        x = make_input(*size)
        reference = step(module, x)
        for actual, expected in zip(step(compiled, x), reference, strict=True):
            assert_close(actual, expected, tolerance=1e-8)
    for actual, expected in zip(twin.state_dict().values(), module.state_dict().values(), strict=True):
        assert_close(actual, expected, tolerance=1e-8)


@pytest.mark.parametrize("set_name, name", OPS)
def test_operations(set_name, name):
    op = randomise(create_op(set_name, name, 16, dtype=torch.float64))
    check(
        op,
        lambda b, h, w: draw(*input_shape(set_name, b, 16, h, w), dtype=torch.float64),
        "aot_eager",
    )


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("genotype", ["sase", "sase_paper", str(Genotype.random(1))])
def test_block(genotype, training):
    block = randomise(SASEBlock(16, genotype, dtype=torch.float64)).train(training)
    check(block, lambda b, h, w: draw(b, 16, h, w, dtype=torch.float64), "aot_eager")


def test_block_through_inductor():
    block = randomise(SASEBlock(16, dtype=torch.float64))
    check(block, lambda b, h, w: draw(b, 16, h, w, dtype=torch.float64), "inductor")
