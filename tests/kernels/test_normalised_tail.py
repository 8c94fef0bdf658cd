"""A batch norm, the block, a shortcut and a ReLU as one unit, by the implementation that `conftest.py` gives."""

import copy

import pytest
import timm
import torch
from inputs import draw, randomise
from kernel_cases import DOUBLE, STRICT, channels_last, contiguous, slow, strided
from norm_states import STATES, in_state
from normalised_tail import OPERATORS, assert_same_step, maps, one_after_the_other, step_of, tail, unit
from timm.layers import SEModule
from tolerances import assert_close
from torch import Tensor, nn

from sase_attn import fuse, kernels
from sase_attn.fusion import tails
from sase_attn.kernels import spec

pytestmark = STRICT


@pytest.mark.parametrize("over, weighted", [(1, True), (2, False)])
def test_statistics_of_a_normalised_map(operators, over, weighted, walk):
    u, affine = draw(1, 5, 3, 4, dtype=DOUBLE), draw(2, 5, seed=1, dtype=DOUBLE)
    every, sign = spec.bits(spec.COMPUTED), affine[0].sign()
    weight, which = (draw(1, 5, seed=2, dtype=DOUBLE), every) if weighted else (None, 0)
    scale, shift = affine[:, :, None, None]
    x = u * sign[:, None, None] * scale + shift
    found, _ = operators.reduce(u, weight, over, every, which, sign, affine)
    expected, _ = operators.reduce(x, weight, over, every, which)
    for value, reference in zip(found, expected, strict=True):
        assert_close(value, reference)


def test_third_powers_of_a_channel_that_weighs_nothing(operators):
    """They overflow where its weight is 0, and must not make its gradients, or those of others, NaN."""
    u = draw(2, 4, 3, 2, seed=0)
    u[:, 1] *= 1e15
    weight = torch.tensor([[0.5, 0.0, 0.9, 0.2]]).expand(2, 4).contiguous()
    l4 = spec.bits(("l4",))
    affine = torch.tensor([[1.5, 0.5, 2.0, 1.0], [0.1, 0.2, 0.3, 0.4]])
    values, saved = operators.reduce(u, weight, 1, 0, l4, None, affine)
    grads = draw(*values.shape, seed=1)
    rows = grads, values, saved, 0, l4
    found = operators.channels_backward(u, weight, *rows, None, affine)
    leaves = [leaf.double().requires_grad_() for leaf in (affine, weight)]
    x = u * leaves[0][0, :, None, None] + leaves[0][1, :, None, None]
    norm = (x * leaves[1][:, :, None, None]).pow(4).sum(1).pow(0.25).flatten(1)
    for a, b in zip(found, torch.autograd.grad(norm, leaves, grads[0].double()), strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "dtype, layout, signs",
    [
        (DOUBLE, contiguous, "mixed"),
        (DOUBLE, channels_last, "positive"),
        (torch.float32, channels_last, "mixed"),
        (torch.float16, contiguous, "mixed"),
        (torch.bfloat16, channels_last, "mixed"),
        pytest.param(DOUBLE, strided, "mixed", marks=slow),
        pytest.param(DOUBLE, channels_last, "mixed", marks=slow),
        pytest.param(torch.float32, contiguous, "positive", marks=slow),
        pytest.param(torch.float16, channels_last, "positive", marks=slow),
        pytest.param(torch.bfloat16, contiguous, "positive", marks=slow),
    ],
)
def test_normalised_tail(backend, dtype, layout, signs):
    module = unit(signs=signs, dtype=DOUBLE if dtype == DOUBLE else torch.float32)
    inputs = maps(2, 6, 5, 3, dtype=dtype, layout=layout)
    found = assert_same_step(backend, module, inputs)
    if layout is not strided:
        assert found["output"].stride() == found["input"].stride() == inputs[0].stride()


@pytest.mark.parametrize(
    "squeezes",
    [
        dict(channel_squeeze="gap_skewness", spatial_squeeze_input="gap_gmp", spatial_squeeze_gated="gap_std"),
        pytest.param(
            dict(channel_squeeze="gap_skew", spatial_squeeze_input="gap_skew", spatial_squeeze_gated="gap_gmp"),
            marks=slow,
        ),
        pytest.param(
            dict(channel_squeeze="gap_std", spatial_squeeze_input="l4_mean", spatial_squeeze_gated="gap"), marks=slow
        ),
    ],
    ids=lambda squeezes: " ".join(squeezes.values()),
)
def test_normalised_tail_of_other_squeezes(backend, squeezes, walk):
    assert_same_step(backend, unit(**squeezes), maps(1, 6, 5, 4, layout=channels_last))


@pytest.mark.parametrize(
    "shape",
    [(1, 19, 1, 3), *(pytest.param(shape, marks=slow) for shape in [(3, 7, 1, 1), (2, 1, 3, 5), (1, 3, 1, 21)])],
)
@pytest.mark.parametrize("layout", [contiguous, pytest.param(channels_last, marks=slow)])
def test_normalised_tail_of_odd_sizes(backend, shape, layout, walk):
    assert_same_step(backend, unit(shape[1]), maps(*shape, layout=layout))


@pytest.mark.parametrize("training", [False, pytest.param(None, marks=slow)])
def test_normalised_tail_by_running_statistics(backend, training):
    """In inference; or of the norm alone."""
    module = unit(training=training is not False)
    module["norm"].eval()
    assert_same_step(backend, module, maps(2, 6, 5, 3))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("state", STATES)
def test_normalised_tail_of_a_norm_in_other_states(backend, state, training):
    """The norm of the host and that of the block."""
    module = in_state(unit(training=training), state)
    assert_same_step(backend, module, maps(2, 6, 5, 3))


@pytest.mark.parametrize("largest", [False, True])
def test_normalised_tail_of_channel_attention(backend, largest):
    """Which reads the map twice: for its gates, and to apply them."""
    module = unit()
    module["block"] = randomise(SEModule(6, rd_channels=3, add_maxpool=largest).double())

    def call(module: nn.ModuleDict, x: Tensor, shortcut: Tensor) -> Tensor:
        return tails.tail(module["block"], x, shortcut, True, module["norm"])

    assert_same_step(backend, module, maps(2, 6, 5, 3), call)


def test_normalised_tail_of_dead_inputs(backend, walk):
    """A channel, a sample, a position and a shut ReLU."""
    x, shortcut, g = maps(2, 3, 4, 3)
    x[0], x[:, 1], x[:, :, 2] = 0, 0, 0
    shortcut[:, 2] = -1e3
    assert_same_step(backend, unit(3), [x, shortcut, g])


def test_normalised_tail_under_autocast(backend):
    module, inputs = unit(dtype=torch.float32), maps(2, 6, 5, 3, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        expected = step_of(one_after_the_other, module, inputs)
        with kernels.backend(backend):
            found = step_of(tail, module, inputs)
    for name, value in found.items():
        assert value.dtype == expected[name].dtype
        assert_close(value.double(), expected[name].double(), torch.float32, 1e-4)


def test_normalised_tail_gives_the_same_bits(backend, walk):
    inputs = maps(2, 3, 4, 3, dtype=torch.float32)
    with kernels.backend(backend):
        first, second = (step_of(tail, unit(3, dtype=torch.float32), inputs) for _ in range(2))
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_weights_of_a_norm_that_are_zero_have_gradients(backend):
    """As timm initialises the last norm of a residual block."""
    module = unit(channel_squeeze="gap", signs="positive")
    nn.init.zeros_(module["norm"].weight)
    assert assert_same_step(backend, module, maps(2, 6, 5, 3))["norm.weight"].all()


def test_gradients_of_the_normalised_tail_that_can_be_differentiated(backend):
    """Are what they are without that."""
    module, (*leaves, g) = unit(), maps(2, 6, 5, 3)
    leaves = [*(leaf.requires_grad_() for leaf in leaves), *module.parameters()]
    with kernels.backend(backend):
        y = tail(module, *leaves[:2])
        plain = torch.autograd.grad(y, leaves, g, retain_graph=True)
        for value, expected in zip(torch.autograd.grad(y, leaves, g, create_graph=True), plain, strict=True):
            assert_close(value, expected)


def test_what_the_normalised_tail_calls(backend, calls):
    """Three reads of the map before the norm forward; backward two that sum and one that writes its gradient."""
    with kernels.backend(backend), calls() as names:
        step_of(tail, unit(), maps(2, 6, 5, 3))
    assert names == OPERATORS


def test_network_fused_for_training(backend, calls):
    """Three residual blocks by the kernels, as without them."""
    torch.manual_seed(0)
    model = randomise(timm.create_model("sase_resnet20", layers=(1, 1, 1), num_classes=3).double()).train()
    x = draw(2, 3, 8, 8, dtype=DOUBLE)
    fused = fuse(copy.deepcopy(model), training=True)
    with kernels.backend(backend), calls() as names:
        fused(x).square().sum().backward()
    assert sorted(names) == sorted(OPERATORS * 3)
    model(x).square().sum().backward()
    for value, expected in zip(fused.parameters(), model.parameters(), strict=True):
        assert_close(value.grad, expected.grad, tolerance=1e-8)
    for value, expected in zip(fused.buffers(), model.buffers(), strict=True):
        assert_close(value.double(), expected.double())
