"""The block and attentions by the implementation of this process: see `conftest.py`."""

import copy

import pytest
import torch
from equivalence import GENOTYPES, step
from inputs import draw, randomise
from kernel_cases import AXES, DOUBLE, STRICT, assert_same, block, channels_last, slow, slow_if_interpreted, strided
from tolerances import TOLERANCES, assert_close
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from sase_attn import create_attention, kernels, statistics
from sase_attn.kernels import reader
from sase_attn.kernels.dispatch import uses_kernels

pytestmark = STRICT
SOME = ["sase", pytest.param("random 1", marks=slow)]
WITHOUT_STATISTICS = "channel_gate:affine,channel_excite:fc,spatial_excite:conv2d_k3,residual:true"


@pytest.mark.parametrize("training", [pytest.param(False, marks=slow), True], ids=["eval", "train"])
@pytest.mark.parametrize("genotype", GENOTYPES)
def test_block(backend, genotype, training):
    module = block(genotype, training)
    inputs = [draw(2, 6, 5, 3, dtype=DOUBLE), draw(3, 6, 1, 4, dtype=DOUBLE), torch.zeros(2, 6, 3, 3, dtype=DOUBLE)]
    inputs = [*inputs, channels_last(inputs[0]), strided(inputs[0])]
    expected = copy.deepcopy(module)
    for x in inputs:
        with kernels.backend(backend):
            y, grads = step(module, x)
        reference, reference_grads = step(expected, x)
        assert y.stride() == reference.stride() or not x.is_contiguous()
        assert_close(y, reference)
        assert_same(grads, reference_grads)
        for value, other in zip(module.buffers(), expected.buffers(), strict=True):
            assert_close(value.double(), other.double())


@pytest.mark.parametrize("genotype", ["sase", "random 1"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_block_of_other_types(backend, genotype, dtype):
    eager = block(genotype, dtype=torch.float32)
    x = draw(2, 6, 5, 3, dtype=dtype)
    with kernels.backend(backend):
        y, grads = step(copy.deepcopy(eager), x)
    expected, expected_grads = step(eager, x)
    assert y.dtype == dtype
    assert_close(y, expected)
    for name, value in grads.items():
        # A parameter's gradient is as far off as that of the output that it is computed from.
        assert_close(value, expected_grads[name], dtype if dtype != torch.float32 else None, 3 * TOLERANCES[dtype])


@pytest.mark.parametrize("relu", [False, pytest.param(True, marks=slow)])
def test_tail(backend, relu):
    x, shortcut = (draw(2, 6, 5, 3, seed=seed, dtype=DOUBLE) for seed in range(2))
    found = []
    for choice in (backend, "torch"):
        module = block("sase")
        leaves = [x.clone().requires_grad_(), shortcut.clone().requires_grad_(), *module.parameters()]
        with kernels.backend(choice):
            y = module.tail(*leaves[:2], relu)
            found.append([y, *torch.autograd.grad(y.square().sum(), leaves)])
            with torch.no_grad():
                found[-1].append(module.eval().tail(x.clone(), shortcut, relu, overwrite=True))
    for value, expected in zip(*found, strict=True):
        assert_close(value, expected)


@pytest.mark.parametrize("own", ["gsop", "l2norm"])
@pytest.mark.parametrize("place", ["channel_squeeze", "spatial_squeeze_input", "spatial_squeeze_gated"])
def test_squeezes_without_statistics_among_others(backend, own, place):
    squeezes = dict(channel_squeeze="gap_gmp", spatial_squeeze_input="gap", spatial_squeeze_gated="l4")
    named = ",".join(f"{edge}:{op}" for edge, op in (squeezes | {place: own}).items())
    module = block(f"{named},{WITHOUT_STATISTICS}")
    x = draw(2, 6, 5, 3, dtype=DOUBLE)
    y, grads = step(copy.deepcopy(module), x)
    with kernels.backend(backend):
        found, found_grads = step(module, x)
    assert_close(found, y)
    assert_same(found_grads, grads)


@slow_if_interpreted
@pytest.mark.parametrize("genotype", SOME)
def test_block_gradcheck(backend, genotype):
    module = block(genotype)
    x = draw(2, 6, 2, 3, dtype=DOUBLE).requires_grad_()
    leaves = (x, *module.parameters())
    with kernels.backend(backend):
        assert torch.autograd.gradcheck(lambda x, *_: module(x), leaves, fast_mode=True)


@slow_if_interpreted
@pytest.mark.parametrize("genotype", SOME)
def test_block_gradgradcheck(backend, genotype):
    module = block(genotype)
    leaves = (draw(2, 6, 2, 3, dtype=DOUBLE).requires_grad_(), *module.parameters())
    with kernels.backend(backend):
        assert torch.autograd.gradgradcheck(lambda x, *_: module(x), leaves, fast_mode=True)


def test_gradients_that_can_be_differentiated(backend):
    """Are what they are without that."""
    module, x = block("sase"), draw(2, 6, 5, 3, dtype=DOUBLE).requires_grad_()
    leaves = [x, *module.parameters()]
    with kernels.backend(backend):
        loss = module(x).square().sum()
        plain = torch.autograd.grad(loss, leaves, retain_graph=True)
        for value, expected in zip(torch.autograd.grad(loss, leaves, create_graph=True), plain, strict=True):
            assert_close(value, expected)


@pytest.mark.parametrize("of", ["parameters", "input"])
def test_gradients_of_a_part(backend, of):
    module, x = block("sase"), draw(2, 6, 5, 3, dtype=DOUBLE)
    if of == "input":
        module.requires_grad_(False)
        x.requires_grad_()
    leaves = [x] if of == "input" else list(module.parameters())
    expected = torch.autograd.grad(copy.deepcopy(module)(x).square().sum(), [x]) if of == "input" else None
    if expected is None:
        expected = torch.autograd.grad(module(x).square().sum(), leaves)
    with kernels.backend(backend):
        found = torch.autograd.grad(module(x).square().sum(), leaves)
    for value, reference in zip(found, expected, strict=True):
        assert_close(value, reference)


def test_backward_twice(backend):
    module, x = block("sase"), draw(2, 6, 5, 3, dtype=DOUBLE).requires_grad_()
    leaves = [x, *module.parameters()]
    with kernels.backend(backend):
        loss = module(x).square().sum()
        first = torch.autograd.grad(loss, leaves, retain_graph=True)
        assert all(map(torch.equal, first, torch.autograd.grad(loss, leaves)))


@pytest.mark.parametrize("name", ["channel_excite", "channel_gate", "mix", "spatial_excite"])
def test_what_a_hook_saw_can_be_differentiated(backend, name):
    """Part of what reads the map, by itself and together with the output."""
    found = []
    for choice in (backend, "torch"):
        module, x = block("sase"), draw(2, 6, 5, 3, dtype=DOUBLE).requires_grad_()
        seen: list[Tensor] = []
        getattr(module, name).register_forward_hook(lambda _, args, y, seen=seen: seen.append(y))
        with kernels.backend(choice):
            y = module(x)
            values = [seen[0].square().sum(), y.square().sum()]
            one = torch.autograd.grad(values[0], x, retain_graph=True)
            found.append([*one, *torch.autograd.grad(values, x)])
    for value, expected in zip(*found, strict=True):
        assert_close(value, expected)


def test_autocast(backend):
    module, x = block("sase", dtype=torch.float32), draw(2, 6, 5, 3)
    with torch.autocast("cpu", torch.bfloat16):
        y, grads = step(copy.deepcopy(module), x)
        with kernels.backend(backend):
            found, found_grads = step(module, x)
    assert found.dtype == y.dtype
    assert_close(found, y)
    assert_same(found_grads, grads)


def test_checkpoints(backend):
    module, x = block("sase", training=False), draw(2, 6, 5, 3, dtype=DOUBLE)
    y, grads = step(module, x)
    for reentrant in (False, True):
        leaf = x.clone().requires_grad_()
        with kernels.backend(backend):
            found = checkpoint(module, leaf, use_reentrant=reentrant)
            assert_close(found, y)
            found.square().sum().backward()
        assert_close(leaf.grad, grads["input"])


def test_saved_for_backward(backend):
    """No more than the input and a tenth of it."""
    module, x = block("sase", dtype=torch.float32, channels=128), draw(1, 128, 12, 12).requires_grad_()
    kept: dict[int, int] = {}
    parameters = {value.untyped_storage().data_ptr() for value in (*module.parameters(), *module.buffers())}

    def pack(value: Tensor) -> Tensor:
        storage = value.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = storage.nbytes()
        return value

    with kernels.backend(backend), torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
        y = module(x)
    assert y.grad_fn is not None
    assert sum(kept.values()) <= 1.1 * x.nbytes, sum(kept.values()) / x.nbytes


def test_hooked_operations_are_called(backend):
    module = block("sase")
    expected = module.eval()(draw(2, 6, 5, 3, dtype=DOUBLE))
    seen = []
    for op in (module.channel_squeeze, module.spatial_squeeze_gated, module.spatial_squeeze_input):
        op.register_forward_hook(lambda op, *_: seen.append(op))
    with kernels.backend(backend):
        assert_close(module(draw(2, 6, 5, 3, dtype=DOUBLE)), expected)
    assert len(seen) == 3


@pytest.mark.parametrize("name", ["se", "eca", "cbam", "srm", "gct_gaussian", "mca_e", "mca_s", "bam", "scse"])
def test_attentions_that_share_the_statistics(backend, name):
    torch.manual_seed(0)
    eager = randomise(create_attention(name, 8).double()).eval()
    x = draw(2, 8, 5, 3, dtype=DOUBLE)
    with kernels.backend(backend):
        y, grads = step(copy.deepcopy(eager), x)
    expected, expected_grads = step(eager, x)
    assert_close(y, expected)
    assert_same(grads, expected_grads)


def test_skewness_and_unbiased_deviation(backend):
    x = draw(2, 5, 7, 3, dtype=DOUBLE)
    names = ["skewness", "std", "l4_mean", "mean"]
    for dims in AXES:
        expected = statistics.compute(x, names, dims)
        with kernels.backend(backend):
            for y, reference in zip(reader.statistics_of(x, names, dims), expected, strict=True):
                assert_close(y, reference)
            with pytest.raises(KeyError, match="no such"):
                reader.statistics_of(x, ["no such"], dims)


def test_a_single_element_has_no_deviation(backend):
    with kernels.backend(backend):
        assert not reader.statistics_of(draw(2, 3, 1, 1), ["std"], [2, 3])[0].any()


def test_what_no_implementation_takes(backend):
    with kernels.backend(backend):
        assert not uses_kernels(torch.empty(0, 3, 2, 2))
        assert statistics.mean(torch.empty(0, 3, 2, 2), [2, 3]).shape == (0, 3, 1, 1)
        assert statistics.mean(draw(2, 3, 2, 2).to("meta"), [2, 3]).device.type == "meta"


def test_what_the_block_calls(backend, calls):
    """Three reads of its input forward; backward two that sum and one that writes its gradient."""
    with kernels.backend(backend), calls() as names:
        step(block("sase"), draw(2, 6, 5, 3, dtype=DOUBLE))
    assert names == ["reduce", "reduce", "gate", "sums", "weight_backward", "map_backward"]
