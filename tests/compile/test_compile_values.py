"""What `torch.compile` is given in place of the definition, against the definition in float64.

"aot_eager" runs it forward and backward without generating code.
"""

import copy

import pytest
import torch
import torch.nn.functional as F
from equivalence import GENOTYPES, step
from inputs import draw, randomise
from pairwise import case
from tolerances import assert_close
from torch import Tensor
from torch._dynamo.utils import counters

from sase_attn import SASEBlock, kernels, statistics
from sase_attn.ops import functional

pytestmark = pytest.mark.usefixtures("one_thread", "fresh_dynamo")
AXES = pytest.mark.parametrize("dims", [[2, 3], [1]], ids=["positions", "channels"])


@pytest.fixture
def fresh_dynamo():
    """And the definition where nothing is compiled."""
    torch._dynamo.reset()
    with kernels.backend("torch"):
        yield
    torch._dynamo.reset()


def compiled(function, backend="aot_eager"):
    return torch.compile(function, fullgraph=True, dynamic=True, backend=backend)


def of_all_magnitudes(dims: list[int]) -> Tensor:
    """In one sample, next to each other: values of 1e30, 1, 1e-30 and 1e-40, zeros, and of one magnitude each."""
    scales = torch.tensor([1e30, 1.0, 1e-30, 1e-40, 0.0])
    x = draw(2, 5, 5, 3)
    return x * (scales[:, None, None] if dims == [2, 3] else scales[:, None])


@AXES
@pytest.mark.parametrize("name", ["l4", "l4_mean"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_l4_of_all_magnitudes(name, dims, dtype):
    """Each value relative to itself: small ones beside large ones keep their digits, down to those of float32."""
    function = getattr(statistics, name)
    x = (of_all_magnitudes(dims) if dtype != torch.float16 else draw(2, 5, 5, 3)).to(dtype)
    leaf, wide = x.clone().requires_grad_(), x.double().requires_grad_()
    y, expected = compiled(function)(leaf, dims), function(wide, dims)
    assert y.dtype == torch.float32
    error = (y.double() - expected).abs()
    assert (error <= 1e-6 * expected + 2e-45).all()
    grads = [torch.autograd.grad(value.sum(), source)[0] for value, source in [(y, leaf), (expected, wide)]]
    assert_close(*grads, dtype)
    assert not grads[0][x == 0].any()


FILTERS = [(1, 1), (1, 3), (1, 7), (3, 3), (3, 1), (1, 5), (5, 5)]


@pytest.mark.parametrize("size", [(5, 4), (1, 1), (1, 6)])
def test_filters_that_are_written_out(size):
    """Each with an input of its own, compiled together: most of the time goes by compilation."""
    weights = [draw(1, 1, *shape, dtype=torch.float64, seed=1) for shape in FILTERS]
    x = draw(2, 1, *size, dtype=torch.float64)

    def together(conv, leaves):
        return [conv(*leaves[2 * i : 2 * i + 2], [k // 2 for k in shape]) for i, shape in enumerate(FILTERS)]

    results = []
    for conv in (functional.conv, lambda x, weight, padding: F.conv2d(x, weight, padding=padding)):
        function = compiled(together) if conv is functional.conv else together
        leaves = [value.clone().requires_grad_() for weight in weights for value in (x, weight)]
        outputs = function(conv, leaves)
        results.append([*outputs, *torch.autograd.grad(sum(y.square().sum() for y in outputs), leaves)])
    for number, (ours, expected) in enumerate(zip(*results, strict=True)):
        with case(number):
            assert_close(ours, expected)


def with_dead_parts(*shape: int) -> Tensor:
    """A dead sample, a dead channel, a dead position, and ties for the largest value."""
    x = draw(*shape)
    x[0] = 0
    x[1, 1] = 0
    x[1, :, 0, 0] = 0
    return torch.relu(x)


NCHW, NHWC = torch.contiguous_format, torch.channels_last
DEFAULT_LAYOUTS = {"sase": NCHW, "sase_paper": NHWC, "random 1": NCHW, "random 4": NHWC}


@pytest.mark.parametrize(
    "name, backend, layout",
    [
        pytest.param(name, backend, layout, marks=[] if default else [pytest.mark.slow])
        for name in GENOTYPES
        for backend in ("aot_eager", "inductor")
        for layout in (NCHW, NHWC)
        for default in [backend == "aot_eager" and layout == DEFAULT_LAYOUTS.get(name)]
    ],
)
def test_block_in_float32(name, backend, layout):
    eager = randomise(SASEBlock(20, GENOTYPES[name]))
    module = compiled(copy.deepcopy(eager), backend)
    counters.clear()
    for shape in [(3, 20, 5, 7), (2, 20, 9, 4)]:
        x = with_dead_parts(*shape).to(memory_format=layout)
        y, grads = step(module, x)
        expected, expected_grads = step(copy.deepcopy(eager).double(), x.double())
        assert y.is_contiguous(memory_format=layout) and grads["input"].is_contiguous(memory_format=layout)
        assert_close(y, expected, torch.float32)
        for key, grad in grads.items():
            # The norm behind the mixer undoes its scale, so that little is left of a sum of large terms.
            assert_close(grad, expected_grads[key], tolerance=1e-4 if key == "mix.weight" else 5e-5)
    assert counters["stats"]["unique_graphs"] == 1


def test_exports_keep_the_definition():
    x = draw(2, 20, 5, 7)
    program = torch.export.export(SASEBlock(20).eval(), (x,))
    targets = {str(node.target) for node in program.graph.nodes}
    assert "aten.conv2d.default" in targets and "aten.abs.default" in targets
    assert not any(
        node.meta["val"].dtype == torch.float64
        for node in program.graph.nodes
        if "val" in node.meta and isinstance(node.meta["val"], Tensor)
    )
