"""Reads of a map and its gate by the implementation of this process: see `conftest.py`."""

import warnings
from itertools import combinations

import pytest
import torch
from inputs import draw
from kernel_cases import (
    ALL,
    ALL_LAYOUTS,
    AXES,
    DOUBLE,
    LAYOUTS,
    ONE_LAYOUT,
    STRICT,
    assert_agree,
    by_definition,
    by_kernels,
    channels_last,
    define,
    read,
    results,
    shared,
    slow,
    strided,
)
from tolerances import assert_close
from torch import Tensor

from sase_attn.kernels import spec

pytestmark = STRICT
FEW_TYPES = pytest.mark.parametrize(
    "dtype",
    [DOUBLE, torch.bfloat16, *(pytest.param(t, marks=slow) for t in (torch.float32, torch.float16))],
    ids=str,
)


@FEW_TYPES
@ALL_LAYOUTS
def test_all_statistics_and_the_gate(operators, dtype, layout):
    assert_agree(operators, layout(draw(2, 5, 7, 3, dtype=dtype)))


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (3, 7, 1, 1), (2, 1, 3, 5), (1, 19, 1, 3), (1, 3, 1, 21)], ids=str)
@LAYOUTS
def test_odd_sizes(operators, shape, layout, walk):
    assert_agree(operators, layout(draw(*shape, dtype=DOUBLE)))


@slow
@pytest.mark.parametrize("names", list(combinations(ALL, 2)), ids=" ".join)
def test_every_pair(operators, names):
    assert_agree(operators, draw(2, 5, 7, 3, dtype=DOUBLE), names)


@pytest.mark.parametrize("name", ALL)
def test_every_statistic_alone(operators, name, walk):
    assert_agree(operators, draw(1, 3, 5, 4, dtype=DOUBLE), (name,))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@LAYOUTS
def test_against_float64(operators, dtype, layout):
    x = layout(draw(2, 6, 5, 7, dtype=dtype))
    *values, dx, dweight = results(lambda *args: by_kernels(operators, *args), x, ALL)
    *expected, dx_expected, dweight_expected = results(by_definition, x.double(), ALL)
    for y, reference in zip(values, expected, strict=True):
        assert_close(y, reference, dtype if y.dtype == dtype else torch.float32)
    for y, reference in ((dx, dx_expected), (dweight, dweight_expected)):
        assert_close(y, reference, dtype)  # the gate's gradient comes in the map's type


def test_first_element_far_from_the_others(operators, walk):
    x = draw(1, 3, 6, 6)
    x[:, :, 0, 0] = 1e4
    for name, value in read(operators, x, [2, 3], ("mean", "biased_std", "third_moment")).items():
        assert_close(value, define(x.double(), [2, 3], name), tolerance=1e-6)


@pytest.mark.parametrize("fill", [0.0, pytest.param(-1.0, marks=slow)])
def test_constant_maps(operators, fill, walk):
    """Ties share the maximum's gradient; roots have gradient 0 at 0; nothing is NaN."""
    x = torch.full((1, 3, 5, 4), fill, dtype=DOUBLE)
    assert all(value.isfinite().all() for value in assert_agree(operators, x))


@ONE_LAYOUT
def test_dead_parts_and_ties(operators, layout, walk):
    x = draw(2, 3, 5, 4, dtype=DOUBLE).round().relu()
    x[0], x[1, 2], x[1, :, 1] = 0, 0, 0
    assert all(value.isfinite().all() for value in assert_agree(operators, layout(x)))


@pytest.mark.parametrize("scale", [1e30, 1e-30])
def test_l4_neither_overflows_nor_vanishes(operators, scale, walk):
    x = draw(1, 3, 5, 4)
    x[0, 0], x[0, :, 1] = 0, 0
    for dims in AXES:
        found = []
        for factor in (1.0, scale):
            leaf = (x * factor).requires_grad_()
            y = read(operators, leaf, dims, ("l4",))["l4"]
            (g,) = torch.autograd.grad(y.sum(), leaf)
            found.append((y / factor, g))
        for plain, scaled in zip(*found, strict=True):
            assert_close(scaled, plain)


@pytest.mark.parametrize("weight", [(0, 0, 0, 0), (1e-12, 2e-12, 0, 1e-12), (1e8, 1e-12, 1, 0), (1, 0, 1e-12, 2)])
@pytest.mark.parametrize("names", [("l4",), pytest.param(("mean", "l4"), marks=slow)], ids=" ".join)
def test_weights_of_any_magnitude(operators, weight, names, walk):
    """In float32, where the map is dead under the largest one, and large under small ones."""
    x = draw(1, 4, 5, 3)
    x[:, 0, 1] = 0
    if weight[0] == 1:
        x[:, 1:3] *= 1e12
    found = []
    for dtype in (torch.float32, DOUBLE):
        leaves = [value.to(dtype).requires_grad_() for value in (x, torch.tensor(weight).float().view(1, 4, 1, 1))]
        if dtype == DOUBLE:
            values = [define(leaves[0] * leaves[1], [1], name) for name in names]
        else:
            values = (shared(operators, leaves[0], weighted=names) * leaves[1]).statistics(names, [1])
        cotangents = [draw(1, 1, 5, 3, seed=2 + i).to(dtype) for i in range(len(values))]
        found.append([*values, *torch.autograd.grad(values, leaves, cotangents)])
    for y, expected in zip(*found, strict=True):
        assert_close(y, expected)
    for channel, reference in zip(found[0][-1].unbind(1), found[1][-1].unbind(1), strict=True):
        if reference.abs().max() > 1e-30:
            assert_close(channel, reference)


def test_not_a_number_is_passed_on(operators, walk):
    x = draw(1, 3, 5, 4)
    x[0, 1, 2, 1] = float("nan")
    for dims in AXES:
        for name, value in read(operators, x, dims, ALL).items():
            assert torch.equal(value.isnan(), define(x, dims, name).isnan())
    gate = torch.ones(1, 1, 1, 1)
    assert torch.equal(shared(operators, x, relu=True).gate(gate, gate).isnan(), x.isnan())


@pytest.mark.parametrize("shortcut", [False, True])
@pytest.mark.parametrize("relu", [False, True])
@FEW_TYPES
@LAYOUTS
def test_gate_with_shortcut_and_relu(operators, shortcut, relu, dtype, layout):
    acc = spec.accumulator(dtype)
    x, other = layout(draw(2, 5, 7, 3, dtype=dtype)), draw(2, 5, 7, 3, seed=1, dtype=dtype)
    gates = draw(2, 5, 1, 1, seed=2, dtype=acc), draw(2, 1, 7, 3, seed=3, dtype=acc)

    def definition(x: Tensor, channel: Tensor, position: Tensor, other: Tensor) -> Tensor:
        y = x * (channel + position)
        y = y + other if shortcut else y
        return (torch.relu(y) if relu else y).to(x.dtype)

    def kernel(x: Tensor, channel: Tensor, position: Tensor, other: Tensor) -> Tensor:
        return shared(operators, x, shortcut=other if shortcut else None, relu=relu).gate(channel, position)

    found = []
    for function in (kernel, definition):
        leaves = [value.detach().requires_grad_() for value in (x, *gates, other)]
        y = function(*leaves)
        kept = leaves if shortcut else leaves[:3]
        found.append((y, *torch.autograd.grad(y, kept, draw(*y.shape, seed=4, dtype=dtype))))
    for ours, expected in zip(*found, strict=True):
        assert_close(ours, expected, dtype)
    if layout is not strided:
        assert found[0][0].stride() == x.stride()


def test_gradients_stop_at_a_shut_relu(operators):
    """Infinite and unknown ones too."""
    x, gate = draw(2, 3, 4, 3).requires_grad_(), torch.ones(1, 1, 1, 1)
    y = shared(operators, x, relu=True).gate(gate, gate)
    for cotangent in (float("inf"), float("nan")):
        g = torch.where(y > 0, 1.0, cotangent).detach()
        assert torch.equal(torch.autograd.grad(y, x, g, retain_graph=True)[0], 2.0 * (y > 0))


@LAYOUTS
def test_gradients_of_any_layout(operators, layout):
    """Expanded from one number, as `sum()` gives them; in the other layout; sliced."""
    x = layout(draw(2, 5, 7, 3, dtype=DOUBLE))
    weight, position = draw(2, 5, 1, 1, dtype=DOUBLE), draw(2, 1, 7, 3, dtype=DOUBLE)
    plain = draw(2, 5, 7, 3, seed=8, dtype=DOUBLE)
    one = torch.ones((), dtype=DOUBLE)
    for cotangent in (one.expand(x.shape), plain, channels_last(plain), strided(plain)):
        leaf = x.detach().requires_grad_()
        reader = shared(operators, leaf, positions=("mean",), channels=("mean",))
        means = [reader.statistics(["mean"], dims)[0].sum() for dims in AXES]
        values = [*means, reader.gate(weight, position)]
        (found,) = torch.autograd.grad(values, leaf, [one, one, cotangent])
        assert_close(found, cotangent * (weight + position) + 1 / 21 + 1 / 5)


@ONE_LAYOUT
def test_gradcheck(operators, layout):
    x = layout(draw(1, 3, 2, 3, dtype=DOUBLE)).requires_grad_()
    weight = draw(1, 3, 1, 1, seed=1, dtype=DOUBLE).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda *leaves: tuple(by_kernels(operators, *leaves, ALL)), (x, weight), fast_mode=True
    )


@slow
def test_gradcheck_element_by_element(operators):
    x = draw(1, 3, 2, 3, dtype=DOUBLE).requires_grad_()
    weight = draw(1, 3, 1, 1, seed=1, dtype=DOUBLE).requires_grad_()
    assert torch.autograd.gradcheck(lambda *leaves: tuple(by_kernels(operators, *leaves, ALL)), (x, weight))


@pytest.mark.parametrize("names", [("mean", "l4"), pytest.param(ALL, marks=slow)], ids=" ".join)
@pytest.mark.parametrize("relu", [pytest.param(False, marks=slow), True])
def test_gradients_of_gradients(operators, names, relu):
    x = draw(1, 3, 2, 3, dtype=DOUBLE).requires_grad_()
    weight = draw(1, 3, 1, 1, seed=1, dtype=DOUBLE).requires_grad_()
    other = draw(1, 3, 2, 3, seed=2, dtype=DOUBLE).requires_grad_()

    def call(x: Tensor, weight: Tensor, other: Tensor) -> tuple[Tensor, ...]:
        sets = dict(positions=names, channels=names, weighted=names)
        reader = shared(operators, x, **sets, shortcut=other, relu=relu)
        product = reader * weight
        unweighted, weighted = reader.statistics(names, [1]), product.statistics(names, [1])
        gated = reader.gate(weight, unweighted[names.index("mean")])
        return *reader.statistics(names, [2, 3]), *unweighted, *weighted, gated

    assert torch.autograd.gradgradcheck(call, (x, weight, other), fast_mode=True)


def test_only_the_weight_has_a_gradient(operators):
    x, weight = draw(2, 5, 7, 3, dtype=DOUBLE), draw(2, 5, 1, 1, dtype=DOUBLE).requires_grad_()
    found = (shared(operators, x, weighted=("l4",)) * weight).statistics(["l4"], [1])[0]
    expected = define(x * weight, [1], "l4")
    assert_close(*(torch.autograd.grad(y.sum(), weight)[0] for y in (found, expected)))


@pytest.mark.parametrize("create_graph", [False, True])
def test_only_the_map_has_a_gradient(operators, create_graph):
    x, weight = draw(2, 5, 7, 3, dtype=DOUBLE).requires_grad_(), draw(2, 5, 1, 1, dtype=DOUBLE)
    found = (shared(operators, x, weighted=("l4",)) * weight).statistics(["l4"], [1])[0]
    expected = define(x * weight, [1], "l4")
    assert_close(*(torch.autograd.grad(y.sum(), x, create_graph=create_graph)[0] for y in (found, expected)))


def test_batched_gradients(operators):
    """`is_grads_batched` runs the backward pass under vmap."""
    x = draw(2, 3, 2, 3, dtype=DOUBLE).requires_grad_()
    weight = draw(2, 3, 1, 1, dtype=DOUBLE).requires_grad_()
    found = []
    for values in (by_kernels(operators, x, weight, ALL), by_definition(x, weight, ALL)):
        cotangents = [draw(3, *y.shape, seed=5 + i, dtype=DOUBLE) for i, y in enumerate(values)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # vmap goes through the batch in a loop, and says so
            found.append(torch.autograd.grad(values, (x, weight), cotangents, is_grads_batched=True))
    for y, expected in zip(*found, strict=True):
        assert_close(y, expected)


def test_every_run_gives_the_same_bits(operators, walk):
    x = draw(1, 3, 5, 4)
    first, second = (results(lambda *args: by_kernels(operators, *args), x, ALL) for _ in range(2))
    assert all(torch.equal(y, again) for y, again in zip(first, second, strict=True))
