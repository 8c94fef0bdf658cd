"""`check`: compare kernels with the definition in float64, before any time is measured."""

import copy

import torch
from speed_variants import FusedTail, Tail
from torch import Tensor, nn

from sase_attn import SASEBlock, kernels

LIMITS = {torch.float32: 1e-4, torch.float16: 4e-3, torch.bfloat16: 3e-2}
SHAPES = [(3, 24, 9, 5), (2, 64, 56, 56), (5, 256, 7, 7)]


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """‖actual − expected‖ / ‖expected‖ in float64."""
    return ((actual.double() - expected.double()).norm() / expected.double().norm()).item()


def step(module: nn.Module, *maps: Tensor) -> list[Tensor]:
    """The output of a module, and the gradients of its sum of squares."""
    maps = tuple(x.detach().requires_grad_() for x in maps)
    y = module(*maps)
    return [y.detach(), *torch.autograd.grad(y.float().square().sum(), [*maps, *module.parameters()])]


def check(device: str, backend: str, dtypes: tuple[torch.dtype, ...] = tuple(LIMITS)) -> None:
    """Compare the block and the fused tail by a backend with float64, and two runs, on odd sizes and in both layouts.

    Raises:
        AssertionError: results differ.
    """
    for layout in (torch.contiguous_format, torch.channels_last):
        for shape in SHAPES:
            for dtype in dtypes:
                torch.manual_seed(0)
                maps = [torch.randn(shape, device=device).to(dtype).contiguous(memory_format=layout) for _ in range(2)]
                block = SASEBlock(shape[1], gate_init="release").to(device)
                tail = Tail(shape[1], copy.deepcopy(block)).to(device)
                tail.norm.weight.data[::2] *= -1
                where = f"{shape} {dtype} {layout}"
                _compare(f"block {where}", backend, block, block, maps[:1])
                _compare(f"tail {where}", backend, FusedTail(tail), tail, maps)


def _compare(what: str, backend: str, module: nn.Module, definition: nn.Module, maps: list[Tensor]) -> None:
    with kernels.backend(backend):
        found, again = (step(copy.deepcopy(module), *maps) for _ in range(2))
    if not all(map(torch.equal, found, again)):
        raise AssertionError(f"{what}: two runs differ")
    with kernels.backend("torch"):
        expected = step(copy.deepcopy(definition).double(), *(x.double() for x in maps))
    compared = 1 + len(maps)
    worst = max(map(relative_error, found[:compared], expected[:compared]))
    limit = LIMITS[maps[0].dtype]
    if not worst <= limit:
        raise AssertionError(f"{what}: relative error {worst:.1e}, allowed {limit:.0e}")
