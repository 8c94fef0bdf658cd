"""The reductions: values worked by hand, adaptive pooling against torch, and what the safe L4 promises."""

import oracle_math
import pytest
import torch
import torch.nn.functional as F
from inputs import draw
from tolerances import assert_close
from torch import Tensor

from sase_attn import statistics

pytestmark = [pytest.mark.filterwarnings("error"), pytest.mark.usefixtures("one_thread")]
DOUBLE = torch.float64

# Of 1, 2, 3, 6: mean 3; deviations -2, -1, 0, 3; their squares sum to 14, their cubes to 18; 1 + 16 + 81 + 1296 = 1394.
BY_HAND = {
    "mean": 3.0,
    "maximum": 6.0,
    "std": (14 / 3) ** 0.5,
    "third_moment": 18 / 4,
    "skewness": 4.5 / (14 / 4 + 1e-5) ** 1.5,
    "l4": 1394**0.25,
    "l4_mean": (1394 / 4) ** 0.25,
    "l2": 50**0.5,
}


@pytest.mark.parametrize("name", BY_HAND)
def test_by_hand(name):
    values = [1.0, 2.0, 3.0, 6.0]
    expected = torch.full((1, 1, 1, 1), BY_HAND[name], dtype=DOUBLE)
    reduce = getattr(statistics, name)
    for shape, dims in [((1, 1, 2, 2), [2, 3]), ((1, 4, 1, 1), [1]), ((1, 2, 2, 1), [1, 2])]:
        assert_close(reduce(torch.tensor(values, dtype=DOUBLE).reshape(shape), dims), expected)
    in_loops = {"maximum": max, "third_moment": lambda numbers: oracle_math.moment(numbers, 3)}
    assert in_loops.get(name, getattr(oracle_math, name, None))(values) == pytest.approx(BY_HAND[name], rel=1e-12)


def test_standardise_by_hand():
    x = torch.tensor([1.0, 2.0, 3.0, 6.0], dtype=DOUBLE).reshape(1, 1, 2, 2)
    expected = torch.tensor([-2.0, -1.0, 0.0, 3.0], dtype=DOUBLE).reshape(1, 1, 2, 2) / (3.5 + 1e-5) ** 0.5
    assert_close(statistics.standardise(x, [2, 3]), expected)


def test_covariance_by_hand():
    """Rows (1, 3) and (2, 8), centred to (-1, 1) and (-3, 3), divided by 2."""
    rows = torch.tensor([[[1.0, 3.0], [2.0, 8.0]]], dtype=DOUBLE)
    assert_close(statistics.covariance(rows, 2), torch.tensor([[[1.0, 3.0], [3.0, 9.0]]], dtype=DOUBLE))


@pytest.mark.parametrize("name", BY_HAND)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_is_reduced_in_float32(name, dtype):
    x = draw(2, 64, 9, 9, dtype=dtype)
    y = getattr(statistics, name)(x, [2, 3])
    assert y.dtype == torch.float32
    assert_close(y, getattr(statistics, name)(x.double(), [2, 3]))


def test_maximum_shares_the_gradient_among_ties():
    x = torch.tensor([5.0, 1.0, 5.0, 2.0], requires_grad=True)
    statistics.maximum(x.reshape(1, 1, 2, 2), [2, 3]).backward()
    assert x.grad.tolist() == [0.5, 0, 0.5, 0]


@pytest.mark.parametrize("name", ["std", "l2", "l4", "l4_mean"])
def test_roots_have_gradient_zero_at_zero(name):
    for x in (torch.zeros(2, 3, 2, 2, requires_grad=True), torch.zeros(1, 1, 1, 1, requires_grad=True)):
        y = getattr(statistics, name)(x, [2, 3])
        y.sum().backward()
        assert not y.any()
        assert not x.grad.any()


@pytest.mark.parametrize("parts", [1, 2, 3, 7, 8, 13])
@pytest.mark.parametrize("size", [1, 2, 5, 8, 12])
def test_adaptive_mean_is_adaptive_average_pooling(size, parts):
    x = draw(2, 3, size, dtype=DOUBLE)
    expected = F.adaptive_avg_pool1d(x, parts)
    assert_close(statistics.adaptive_mean(x, -1, parts), expected)
    assert_close(statistics.adaptive_mean(x.transpose(1, 2), -2, parts), expected.transpose(1, 2))


def test_adaptive_mean_twice_is_the_2d_pooling():
    x = draw(2, 3, 11, 5, dtype=DOUBLE)
    pooled = statistics.adaptive_mean(statistics.adaptive_mean(x, -1, 8), -2, 8)
    assert_close(pooled, F.adaptive_avg_pool2d(x, 8))


# L4: what its rescaling by the largest magnitude changes, and what it does not.

AXES = pytest.mark.parametrize("dims", [[2, 3], [1]], ids=["positions", "channels"])


def plain_l4(x: Tensor, dims: list[int]) -> Tensor:
    return x.pow(4).sum(dims, keepdim=True).pow(0.25)


@AXES
@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE], ids=str)
def test_l4_is_the_plain_form(dims, dtype):
    """Values, gradients and gradients of gradients; the plain form in float64."""
    x = draw(3, 5, 4, 3, dtype=dtype)
    results = []
    for function, value in [(statistics.l4, x), (plain_l4, x.double())]:
        leaf = value.clone().requires_grad_()
        y = function(leaf, dims)
        (grad,) = torch.autograd.grad(y, leaf, draw(*y.shape, seed=1, dtype=leaf.dtype), create_graph=True)
        (second,) = torch.autograd.grad(grad, leaf, draw(*x.shape, seed=2, dtype=leaf.dtype))
        results.append((y, grad, second))
    for ours, plain in zip(*results, strict=True):
        assert_close(ours, plain, dtype)


@AXES
@pytest.mark.parametrize("name", ["l4", "l4_mean"])
def test_l4_second_derivatives(name, dims):
    x = draw(2, 3, 2, 2, dtype=DOUBLE).requires_grad_()
    assert torch.autograd.gradcheck(lambda value: getattr(statistics, name)(value, dims), x)
    assert torch.autograd.gradgradcheck(lambda value: getattr(statistics, name)(value, dims), x)


@AXES
@pytest.mark.parametrize("scale", [1e30, 1e-30])
@pytest.mark.parametrize("name", ["l4", "l4_mean"])
def test_l4_neither_overflows_nor_vanishes(name, dims, scale):
    """In float32, where x⁴ would be 1e±120: the norm scales with its input, the gradient does not change."""
    function = getattr(statistics, name)
    x = draw(2, 3, 4, 5).requires_grad_()
    scaled = (x.detach() * scale).requires_grad_()
    y, expected = function(scaled, dims), function(x, dims)
    assert_close(y / scale, expected)
    y.sum().backward()
    expected.sum().backward()
    assert_close(scaled.grad, x.grad)


@AXES
def test_l4_with_zeros_among_values(dims):
    x = draw(2, 3, 4, 5)
    x[0] = 0
    x[1, 0] = 0
    x[1, :, 0] = 0
    x.requires_grad_()
    y = statistics.l4(x, dims)
    (grad,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(grad.square().sum(), x)
    assert all(value.isfinite().all() for value in (y, grad, second))
    assert not grad[x == 0].any()
    assert_close(y, plain_l4(x.double(), dims))
