"""A batch norm, the block, a shortcut and a ReLU, computed as one unit and one after the other, and compared."""

import copy
from collections.abc import Callable
from dataclasses import replace

import torch
from inputs import draw, randomise
from kernel_cases import DOUBLE, contiguous
from tolerances import TOLERANCES
from torch import Tensor, nn

from sase_attn import Genotype, SASEBlock, kernels

OPERATORS = ["reduce", "reduce", "gate", "normalised_sums", "channels_backward", "map_backward"]


def unit(
    channels: int = 6, signs: str = "mixed", training: bool = True, dtype: torch.dtype = DOUBLE, **squeezes: str
) -> nn.ModuleDict:
    """A norm, and a block in which `squeezes` replace those of the searched genotype."""
    torch.manual_seed(0)
    norm = randomise(nn.BatchNorm2d(channels, dtype=dtype))
    block = randomise(SASEBlock(channels, replace(Genotype.parse("sase"), **squeezes), dtype=dtype))
    with torch.no_grad():
        norm.weight.abs_().add_(0.5)
        if signs == "mixed":
            norm.weight[::2] *= -1
    return nn.ModuleDict({"norm": norm, "block": block}).train(training)


def maps(*shape: int, dtype: torch.dtype = DOUBLE, layout: Callable[[Tensor], Tensor] = contiguous) -> list[Tensor]:
    """Three maps: the input of the norm, the shortcut, and the gradient of the result."""
    return [layout(draw(*shape, seed=seed, dtype=dtype)) for seed in range(3)]


def tail(module: nn.ModuleDict, x: Tensor, shortcut: Tensor) -> Tensor:
    return module["block"].tail(x, shortcut, norm=module["norm"])


def one_after_the_other(module: nn.ModuleDict, x: Tensor, shortcut: Tensor) -> Tensor:
    return torch.relu(module["block"](module["norm"](x)) + shortcut)


def step_of(call: Callable[..., Tensor], module: nn.ModuleDict, inputs: list[Tensor]) -> dict[str, Tensor]:
    """The output, gradients and buffers of a step of a copy of the module, by name."""
    module = copy.deepcopy(module)
    *leaves, g = inputs
    leaves = [leaf.detach().requires_grad_() for leaf in leaves]
    y = call(module, *leaves)
    parameters = dict(module.named_parameters())
    grads = torch.autograd.grad(y, [*leaves, *parameters.values()], g)
    names = ["input", "shortcut", *parameters]
    return {"output": y.detach(), **dict(zip(names, grads, strict=True)), **dict(module.named_buffers())}


def assert_same_step(
    backend: str, module: nn.ModuleDict, inputs: list[Tensor], call: Callable[..., Tensor] = tail
) -> dict[str, Tensor]:
    """Check the unit's step against the definition in float64, and return it."""
    with kernels.backend(backend):
        found = step_of(call, module, inputs)
    expected = step_of(one_after_the_other, copy.deepcopy(module).double(), [x.double() for x in inputs])
    dtype = inputs[0].dtype
    assert found["output"].dtype == dtype
    assert found.keys() == expected.keys()
    largest = max(value.abs().max().item() for value in expected.values())
    for name, value in found.items():
        assert value.isfinite().all(), name
        # Gradients of parameters may be small sums of large terms, so the largest value sets a limit too.
        error = (value.double() - expected[name].double()).abs().max().item()
        limit = 3 * TOLERANCES[dtype] * max(expected[name].abs().max().item(), 0.03 * largest)
        assert error <= limit, f"{name}: error {error:.2e}, allowed {limit:.2e}"
    return found
