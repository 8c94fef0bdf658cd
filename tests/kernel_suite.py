"""The Triton kernels, interpreted on the CPU, against the definition and float64.

`test_kernels.py` runs this in a process of its own, because Triton reads TRITON_INTERPRET where kernels are decorated.
By hand: `TRITON_INTERPRET=1 pytest tests/kernel_suite.py`. Memory that no kernel has written is NaN.
"""

import copy
import warnings
from collections.abc import Callable, Iterator
from itertools import combinations

import pytest
import torch
from equivalence import GENOTYPES, step
from inputs import draw, randomise
from tolerances import TOLERANCES, assert_close
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp, vmap
from torch.utils._python_dispatch import TorchDispatchMode

from sase_attn import SASEBlock, create_attention, kernels, statistics
from sase_attn.kernels import functions, operators, selection

pytestmark = pytest.mark.filterwarnings(
    "error",
    "ignore:All-NaN slice",  # of numpy, which interprets
    "ignore:.*torch.jit",
    "ignore::torch.jit.TracerWarning",
)
DOUBLE = torch.float64
DEFINITIONS = {
    "mean": statistics.mean,
    "maximum": statistics.maximum,
    "std": statistics.biased_std,
    "third": statistics.third_moment,
    "l4": statistics.l4,
}
ALL = selection.STATISTICS
TYPES = pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
slow = pytest.mark.slow
FEW_TYPES = pytest.mark.parametrize(
    "dtype",
    [DOUBLE, torch.bfloat16, *(pytest.param(t, marks=slow) for t in (torch.float32, torch.float16))],
    ids=str,
)


def contiguous(x: Tensor) -> Tensor:
    return x.contiguous()


def channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def strided(x: Tensor) -> Tensor:
    """Every other column of a wider map."""
    return x.repeat_interleave(2, dim=3)[..., ::2]


ALL_LAYOUTS = pytest.mark.parametrize("layout", [contiguous, channels_last, strided])
LAYOUTS = pytest.mark.parametrize("layout", [contiguous, channels_last, pytest.param(strided, marks=slow)])


@pytest.fixture(autouse=True)
def poison() -> Iterator[None]:
    """Fill memory that is allocated with NaN."""
    assert operators.INTERPRETED, "run with TRITON_INTERPRET=1"
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)
    assert torch.empty(3).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(params=[pytest.param("one tile", marks=slow), pytest.param("many tiles", marks=slow), "pieces"])
def walk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Maps that fit a tile; that take several in one program; that several programs share."""
    if request.param != "one tile":
        monkeypatch.setattr(selection, "TILE", 16)
    if request.param == "many tiles":
        monkeypatch.setattr(selection, "PROGRAMS", 1)


class Calls(TorchDispatchMode):
    """Names of our operators that were called."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        if function.namespace == "sase_attn":
            self.names.append(function._opname)
        return function(*args, **(kwargs or {}))


def by_kernels(x: Tensor, weight: Tensor, names: tuple[str, ...]) -> list[Tensor]:
    over_space, _, x = functions.reduce(x, 2, names)
    over_channels, of_product, x = functions.reduce(x, 1, names, weight, names)
    gate = functions.gate(x, weight, over_channels[names[0]])
    return [*over_space.values(), *over_channels.values(), *of_product.values(), gate]


def by_definition(x: Tensor, weight: Tensor, names: tuple[str, ...]) -> list[Tensor]:
    product = x * weight
    values = [DEFINITIONS[name](m, dims) for m, dims in [(x, [2, 3]), (x, [1]), (product, [1])] for name in names]
    return [*values, (x * (weight + values[len(names)])).to(x.dtype)]


def results(function: Callable[..., list[Tensor]], x: Tensor, *args: object, seed: int = 5) -> list[Tensor]:
    """Values, and the gradients of x and the weight for random gradients of the values."""
    weight = draw(len(x), x.shape[1], 1, 1, seed=1, dtype=selection.accumulator(x.dtype))
    leaves = [x.detach().requires_grad_(), weight.requires_grad_()]
    values = function(*leaves, *args)
    cotangents = [draw(*y.shape, seed=seed + i, dtype=y.dtype) for i, y in enumerate(values)]
    return [*values, *torch.autograd.grad(values, leaves, cotangents)]


def assert_agree(x: Tensor, names: tuple[str, ...] = ALL, tolerance: float | None = None) -> list[Tensor]:
    found = results(by_kernels, x, names)
    for y, expected in zip(found, results(by_definition, x, names), strict=True):
        assert y.dtype == expected.dtype
        # Sums of gradients are rounded in another order.
        assert_close(y, expected, tolerance=tolerance or 3 * TOLERANCES[x.dtype if y.dtype == x.dtype else y.dtype])
    return found


@FEW_TYPES
@ALL_LAYOUTS
def test_all_statistics_and_the_gate(dtype, layout):
    assert_agree(layout(draw(2, 5, 7, 3, dtype=dtype)))


@pytest.mark.parametrize(
    "dtype, programs",
    [(DOUBLE, 1), (DOUBLE, 512), *(pytest.param(t, 512, marks=slow) for t in TOLERANCES if t != DOUBLE)],
    ids=str,
)
@LAYOUTS
def test_in_many_tiles_and_pieces(dtype, programs, layout, monkeypatch):
    monkeypatch.setattr(selection, "TILE", 16)
    monkeypatch.setattr(selection, "PROGRAMS", programs)
    assert_agree(layout(draw(1, 5, 5, 4, dtype=dtype)))


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (3, 7, 1, 1), (2, 1, 3, 5), (1, 19, 1, 3), (1, 3, 1, 21)], ids=str)
@LAYOUTS
def test_odd_sizes(shape, layout, walk):
    assert_agree(layout(draw(*shape, dtype=DOUBLE)))


@slow
@pytest.mark.parametrize("names", list(combinations(ALL, 2)), ids=" ".join)
def test_every_pair(names):
    assert_agree(draw(2, 5, 7, 3, dtype=DOUBLE), names)


@pytest.mark.parametrize("name", ALL)
def test_every_statistic_alone(name, walk):
    assert_agree(draw(1, 3, 5, 4, dtype=DOUBLE), (name,))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@LAYOUTS
def test_against_float64(dtype, layout):
    x = layout(draw(2, 6, 5, 7, dtype=dtype))
    *values, dx, dweight = results(by_kernels, x, ALL)
    *expected, dx_expected, dweight_expected = results(by_definition, x.double(), ALL)
    for y, reference in zip(values, expected, strict=True):
        assert_close(y, reference, dtype if y.dtype == dtype else torch.float32)
    for y, reference in ((dx, dx_expected), (dweight, dweight_expected)):
        assert_close(y, reference, dtype)  # the gate's gradient comes in the map's type


@pytest.mark.parametrize("offset", [-1e3, pytest.param(1e2, marks=slow)])
def test_mean_far_above_the_deviation(offset, walk):
    """In float32, where raw moments would lose the third and most of the second."""
    x = (draw(1, 20, 5, 4, dtype=DOUBLE) + offset).float()
    for over, dims in ((2, [2, 3]), (1, [1])):
        found, _, _ = functions.reduce(x, over, ("std", "third"))
        assert_close(found["std"], statistics.biased_std(x.double(), dims), tolerance=1e-6)
        assert_close(found["third"], statistics.third_moment(x.double(), dims), tolerance=1e-5)


def test_first_element_far_from_the_others(walk):
    x = draw(1, 3, 6, 6)
    x[:, :, 0, 0] = 1e4
    found, _, _ = functions.reduce(x, 2, ("mean", "std", "third"))
    for name, value in found.items():
        assert_close(value, DEFINITIONS[name](x.double(), [2, 3]), tolerance=1e-6)


@pytest.mark.parametrize("fill", [0.0, -1.0])
def test_constant_maps(fill, walk):
    """Ties share the maximum's gradient; roots have gradient 0 at 0; nothing is NaN."""
    x = torch.full((1, 3, 5, 4), fill, dtype=DOUBLE)
    assert all(value.isfinite().all() for value in assert_agree(x))


@LAYOUTS
def test_dead_parts_and_ties(layout, walk):
    x = draw(2, 3, 5, 4, dtype=DOUBLE).round().relu()
    x[0], x[1, 2], x[1, :, 1] = 0, 0, 0
    assert all(value.isfinite().all() for value in assert_agree(layout(x)))


@pytest.mark.parametrize("scale", [1e30, 1e-30])
def test_l4_neither_overflows_nor_vanishes(scale, walk):
    x = draw(1, 3, 5, 4)
    for over in (2, 1):
        found = []
        for factor in (1.0, scale):
            leaf = (x * factor).requires_grad_()
            y = functions.reduce(leaf, over, ("l4",))[0]["l4"]
            (g,) = torch.autograd.grad(y.sum(), leaf)
            found.append((y / factor, g))
        for plain, scaled in zip(*found, strict=True):
            assert_close(scaled, plain)


def test_not_a_number_is_passed_on(walk):
    x = draw(1, 3, 5, 4)
    x[0, 1, 2, 1] = float("nan")
    for over, dims in ((2, [2, 3]), (1, [1])):
        for name, value in functions.reduce(x, over, ALL)[0].items():
            assert torch.equal(value.isnan(), DEFINITIONS[name](x, dims).isnan())


@pytest.mark.parametrize("shortcut", [False, True])
@pytest.mark.parametrize("relu", [False, True])
@TYPES
@LAYOUTS
def test_gate_with_shortcut_and_relu(shortcut, relu, dtype, layout):
    acc = selection.accumulator(dtype)
    x, other = layout(draw(2, 5, 7, 3, dtype=dtype)), draw(2, 5, 7, 3, seed=1, dtype=dtype)
    gates = draw(2, 5, 1, 1, seed=2, dtype=acc), draw(2, 1, 7, 3, seed=3, dtype=acc)

    def definition(x: Tensor, channel: Tensor, position: Tensor, other: Tensor) -> Tensor:
        y = x * (channel + position)
        y = y + other if shortcut else y
        return (torch.relu(y) if relu else y).to(x.dtype)

    def kernel(x: Tensor, channel: Tensor, position: Tensor, other: Tensor) -> Tensor:
        return functions.gate(x, channel, position, other if shortcut else None, relu)

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


def test_wrong_shortcut():
    x = draw(2, 5, 7, 3)
    with pytest.raises(
        ValueError, match=r"shape and type of the map, \(2, 5, 7, 3\) torch.float32, got \(2, 5, 1, 1\)"
    ):
        functions.gate(x, x[:, :, :1, :1], x[:, :1], x[:, :, :1, :1])


@LAYOUTS
def test_gradients_of_any_layout(layout):
    """Expanded from one number, as `sum()` gives them; in the other layout; sliced."""
    x = layout(draw(2, 5, 7, 3, dtype=DOUBLE))
    weight, position = draw(2, 5, 1, 1, dtype=DOUBLE), draw(2, 1, 7, 3, dtype=DOUBLE)
    plain = draw(2, 5, 7, 3, seed=8, dtype=DOUBLE)
    for cotangent in (torch.ones((), dtype=DOUBLE).expand(x.shape), plain, channels_last(plain), strided(plain)):
        leaf = x.detach().requires_grad_()
        _, _, carried = functions.reduce(leaf, 2, ("mean",))
        (found,) = torch.autograd.grad(functions.gate(carried, weight, position), leaf, cotangent)
        assert_close(found, cotangent * (weight + position))
        leaf = x.detach().requires_grad_()
        values, _, carried = functions.reduce(leaf, 1, ("mean",))
        (found,) = torch.autograd.grad([values["mean"].sum(), carried], leaf, [torch.ones((), dtype=DOUBLE), cotangent])
        assert_close(found, cotangent + 1 / 5)


@pytest.mark.parametrize("layout", [channels_last, *(pytest.param(f, marks=slow) for f in (contiguous, strided))])
def test_gradcheck(layout):
    x = layout(draw(1, 3, 2, 3, dtype=DOUBLE)).requires_grad_()
    weight = draw(1, 3, 1, 1, seed=1, dtype=DOUBLE).requires_grad_()
    assert torch.autograd.gradcheck(lambda *leaves: tuple(by_kernels(*leaves, ALL)), (x, weight), fast_mode=True)


@slow
def test_gradcheck_element_by_element():
    x = draw(1, 3, 2, 3, dtype=DOUBLE).requires_grad_()
    weight = draw(1, 3, 1, 1, seed=1, dtype=DOUBLE).requires_grad_()
    assert torch.autograd.gradcheck(lambda *leaves: tuple(by_kernels(*leaves, ALL)), (x, weight))


def test_only_the_weight_has_a_gradient():
    x, weight = draw(2, 5, 7, 3, dtype=DOUBLE), draw(2, 5, 1, 1, dtype=DOUBLE).requires_grad_()
    found = functions.reduce(x, 1, (), weight, ("l4",))[1]["l4"]
    assert_close(*(torch.autograd.grad(y.sum(), weight)[0] for y in (found, statistics.l4(x * weight, [1]))))


def test_second_derivatives_are_refused():
    x = draw(2, 3, 2, 3).requires_grad_()
    (g,) = torch.autograd.grad(functions.reduce(x, 2, ("l4",))[0]["l4"].sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match=r"call sase_attn.kernels.use\('torch'\) before"):
        g.sum().backward()


def test_batched_gradients():
    """`is_grads_batched` runs the backward pass under vmap."""
    x = draw(2, 3, 2, 3, dtype=DOUBLE).requires_grad_()
    cotangents = draw(3, 2, 3, 2, 3, dtype=DOUBLE)
    weight, position = draw(2, 3, 1, 1, dtype=DOUBLE), draw(2, 1, 2, 3, dtype=DOUBLE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # vmap goes through the batch in a loop, and says so
        (found,) = torch.autograd.grad(functions.gate(x, weight, position), x, cotangents, is_grads_batched=True)
    assert_close(found, cotangents * (weight + position))


@pytest.mark.parametrize("shape", [(2, 5, 4, 3), *(pytest.param(s, marks=slow) for s in [(1, 1, 1, 1), (3, 4, 1, 1)])])
@pytest.mark.parametrize("layout", [channels_last, *(pytest.param(f, marks=slow) for f in (contiguous, strided))])
def test_operators_are_registered_as_torch_wants(shape, layout):
    x = layout(draw(*shape))
    batch, channels, height, width = shape
    channel, position = draw(batch, channels), draw(batch, height * width)
    for over, weight, weighted in ((2, None, 0), (1, channel, 31), (1, None, 0)):
        torch.library.opcheck(operators.reduce, (x, weight, over, 31, weighted))
        values, saved = operators.reduce(x, weight, over, 31, weighted)
        for carried in (None, x):
            arguments = (x, weight, values, saved, values, carried, over, 31, weighted)
            torch.library.opcheck(operators.reduce_backward, arguments)
    for shortcut in (None, x):
        torch.library.opcheck(operators.gate, (x, channel, position, shortcut, shortcut is not None))
        arguments = (x, channel, position, shortcut, channels_last(x), shortcut is not None)
        torch.library.opcheck(operators.gate_backward, arguments)


def test_every_run_gives_the_same_bits(walk):
    x = draw(1, 3, 5, 4)
    first, second = (results(by_kernels, x, ALL) for _ in range(2))
    assert all(torch.equal(y, again) for y, again in zip(first, second, strict=True))


# The block and other modules.


def block(genotype: str, training: bool = True, dtype: torch.dtype = DOUBLE) -> nn.Module:
    return randomise(SASEBlock(6, GENOTYPES[genotype], dtype=dtype)).train(training)


def taken(module: nn.Module, x: Tensor) -> list[str]:
    with kernels.use("triton"), Calls() as calls:
        module(x)
    return calls.names


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("genotype", GENOTYPES)
def test_block(genotype, training):
    definition = block(genotype, training)
    inputs = [draw(2, 6, 5, 3, dtype=DOUBLE), draw(3, 6, 1, 4, dtype=DOUBLE), torch.zeros(2, 6, 3, 3, dtype=DOUBLE)]
    inputs = [*inputs, channels_last(inputs[0]), strided(inputs[0])]
    expected = copy.deepcopy(definition)
    for x in inputs:
        with kernels.use("triton"):
            y, grads = step(definition, x)
        reference, reference_grads = step(expected, x)
        assert y.stride() == reference.stride() or not x.is_contiguous()
        assert_close(y, reference)
        for name, value in grads.items():
            assert_close(value, reference_grads[name])
        for value, other in zip(definition.buffers(), expected.buffers(), strict=True):
            assert_close(value.double(), other.double())


@pytest.mark.parametrize("genotype", ["sase", "random 1"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_block_of_other_types(genotype, dtype):
    eager = block(genotype, dtype=torch.float32)
    x = draw(2, 6, 5, 3, dtype=dtype)
    with kernels.use("triton"):
        y, grads = step(copy.deepcopy(eager), x)
    expected, expected_grads = step(eager, x)
    assert y.dtype == dtype
    assert_close(y, expected)
    for name, value in grads.items():
        # A parameter's gradient is as far off as that of the output that it is computed from.
        assert_close(value, expected_grads[name], dtype if dtype != torch.float32 else None, 3 * TOLERANCES[dtype])


def test_the_block_reads_its_input_three_times():
    assert taken(block("sase"), draw(2, 6, 5, 3)) == ["reduce", "reduce", "gate"]
    with kernels.use("triton"), Calls() as calls:
        step(block("sase"), draw(2, 6, 5, 3, dtype=DOUBLE))
    assert calls.names == ["reduce", "reduce", "gate", "gate_backward", "reduce_backward", "reduce_backward"]


def test_hooked_operations_are_called():
    module = block("sase")
    expected = module.eval()(draw(2, 6, 5, 3, dtype=DOUBLE))
    seen = []
    for op in (module.channel_squeeze, module.spatial_squeeze_gated, module.spatial_squeeze_input):
        op.register_forward_hook(lambda op, *_: seen.append(op))
    with kernels.use("triton"):
        assert_close(module(draw(2, 6, 5, 3, dtype=DOUBLE)), expected)
    assert len(seen) == 3


@pytest.mark.parametrize("name", ["se", "eca", "cbam", "srm", "gct_gaussian", "mca_e", "mca_s", "bam", "scse"])
def test_attentions_that_share_the_statistics(name):
    torch.manual_seed(0)
    eager = randomise(create_attention(name, 8).double()).eval()
    x = draw(2, 8, 5, 3, dtype=DOUBLE)
    with kernels.use("triton"):
        y, grads = step(copy.deepcopy(eager), x)
    expected, expected_grads = step(eager, x)
    assert_close(y, expected)
    for key, value in grads.items():
        assert_close(value, expected_grads[key])


def test_skewness_and_unbiased_deviation():
    x = draw(2, 5, 7, 3, dtype=DOUBLE)
    names = ["skewness", "std", "l4_mean", "mean"]
    for dims in ([2, 3], [1]):
        expected = statistics.several(x, names, dims)
        with kernels.use("triton"):
            for y, reference in zip(statistics.several(x, names, dims), expected, strict=True):
                assert_close(y, reference)
            with Calls() as calls:
                assert_close(statistics.skewness(x, dims, eps=1.0), statistics.skewness(x, dims, eps=1.0))
            assert not calls.names  # kernels know the usual eps only
            with pytest.raises(KeyError, match="no such"):
                statistics.several(x, ["no such"], dims)


def test_a_single_element_has_no_deviation():
    with kernels.use("triton"):
        assert not statistics.std(draw(2, 3, 1, 1), [2, 3]).any()


def test_function_transforms_take_the_definition():
    module = block("sase", training=False)
    x = draw(3, 6, 4, 3, dtype=DOUBLE)
    state = {name: value.detach() for name, value in (*module.named_parameters(), *module.named_buffers())}
    y, grads = step(module, x)

    def call(x: Tensor) -> Tensor:
        return functional_call(module, state, (x,))

    def gradient(x: Tensor) -> Tensor:
        return grad(lambda x: call(x).square().sum())(x)

    direction = draw(*x.shape, seed=3, dtype=DOUBLE)
    with kernels.use("triton"), Calls() as calls:
        assert_close(vmap(lambda sample: call(sample[None])[0])(x), y)
        assert_close(gradient(x), grads["input"])
        value, slope = jvp(call, (x,), (direction,))
        assert_close(value, y)
        assert_close((2 * y * slope).sum(), (grads["input"] * direction).sum())
        assert jvp(gradient, (x,), (direction,))[1].isfinite().all()
        with torch.autograd.forward_ad.dual_level():
            dual = module(torch.autograd.forward_ad.make_dual(x, direction))
            assert_close(torch.autograd.forward_ad.unpack_dual(dual).tangent, slope)
    assert not calls.names


@pytest.mark.filterwarnings("ignore")
@slow
def test_tracers_take_the_definition():
    module = block("sase", training=False)
    x = draw(2, 6, 4, 3, dtype=DOUBLE)
    y = module(x)
    torch.use_deterministic_algorithms(False)
    with kernels.use("triton"):
        for strict in (False, True):
            program = torch.export.export(module, (x,), strict=strict)
            assert "sase_attn" not in program.graph_module.code
        traced = torch.jit.trace(module, x)
        assert "sase_attn::" not in str(traced.inlined_graph)
        scripted = torch.jit.script(module)
        forms = (program.module(), traced, scripted, torch.fx.symbolic_trace(module))
        forms = (*forms, torch.compile(module, backend="aot_eager", fullgraph=True))
        for form in forms[:3]:
            with Calls() as calls:
                assert_close(form(x), y)
            assert not calls.names
        for form in forms[3:]:
            assert_close(form(x), y)
        fake = torch._subclasses.FakeTensorMode(allow_non_fake_inputs=True)
        with fake:
            assert module(fake.from_tensor(x)).shape == y.shape


def test_what_kernels_refuse():
    with kernels.use("triton"):
        with pytest.raises(
            RuntimeError, match="the kernels take float16, bfloat16, float32 or float64, got torch.int64"
        ):
            statistics.maximum(torch.ones(1, 2, 3, 4, dtype=torch.int64), [2, 3])
        assert statistics.mean(torch.empty(0, 3, 2, 2), [2, 3]).shape == (0, 3, 1, 1)
        assert statistics.mean(draw(2, 3, 2, 2).to("meta"), [2, 3]).device.type == "meta"
