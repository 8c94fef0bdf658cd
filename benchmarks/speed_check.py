"""The gate before any time is measured: kernels against the definition in float64."""

import copy

import torch
from torch import Tensor, nn

from sase_attn import SASEBlock, kernels

LIMITS = {torch.float32: 1e-4, torch.float16: 4e-3, torch.bfloat16: 3e-2}
SHAPES = [(3, 24, 9, 5), (2, 64, 56, 56), (5, 256, 7, 7)]


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """‖actual − expected‖ / ‖expected‖ in float64."""
    return ((actual.double() - expected.double()).norm() / expected.double().norm()).item()


def step(block: nn.Module, x: Tensor) -> list[Tensor]:
    """Output and the gradients of its sum of squares."""
    x = x.detach().requires_grad_()
    y = block(x)
    return [y.detach(), *torch.autograd.grad(y.float().square().sum(), [x, *block.parameters()])]


def check(device: str, backend: str, dtypes: tuple[torch.dtype, ...] = tuple(LIMITS)) -> None:
    """Compare the block by a backend with float64, and with itself, on odd sizes and in both layouts.

    Raises:
        AssertionError: they differ.
    """
    for layout in (torch.contiguous_format, torch.channels_last):
        for shape in SHAPES:
            for dtype in dtypes:
                torch.manual_seed(0)
                block = SASEBlock(shape[1], gate_init="release").to(device)
                x = torch.randn(shape, device=device).to(dtype).contiguous(memory_format=layout)
                with kernels.use(backend):
                    found, again = (step(copy.deepcopy(block), x) for _ in range(2))
                if not all(map(torch.equal, found, again)):
                    raise AssertionError(f"{shape} {dtype} {layout}: two runs differ")
                with kernels.use("torch"):
                    expected = step(copy.deepcopy(block).double(), x.double())
                worst = max(map(relative_error, found[:2], expected[:2]))
                if not worst <= LIMITS[dtype]:
                    raise AssertionError(
                        f"{shape} {dtype} {layout}: relative error {worst:.1e}, allowed {LIMITS[dtype]:.0e}"
                    )
