"""The fast implementation of a super-network block against its definition, in float64; what it keeps and reads.

By the kernels for the CPU and without any; `kernel_search_checks.py` has what holds for those in Triton as well.
"""

import copy

import pytest
import torch
from inputs import draw, randomise
from tolerances import assert_close
from torch.overrides import TorchFunctionMode

from sase_attn import kernels, list_ops, statistics
from sase_attn.genotype import EDGES
from sase_attn.kernels import dispatch
from sase_attn.kernels.cpu import chunks
from sase_attn.ops import OP_SETS, Op, channel_squeeze, reductions, spatial_squeeze
from sase_attn.search import SearchBlock, SearchSpace
from sase_attn.search.supernet.standardised_sums import standardised_sums

pytestmark = pytest.mark.usefixtures("one_thread")
EVERYTHING = SearchSpace({edge: tuple(list_ops(op_set)) for edge, op_set in EDGES.items()})
SPACES = {"release": SearchSpace.get("release"), "paper": SearchSpace.get("paper"), "all operations": EVERYTHING}


def pair(space, channels, dtype=torch.float64):
    """The same block twice, by its definition and fast, with distinct alphas."""
    block = randomise(SearchBlock(channels, space, reference=True, dtype=dtype))
    torch.manual_seed(2)
    with torch.no_grad():
        block.shared_architecture.alpha.copy_(torch.randn_like(block.shared_architecture.alpha))
    fast = copy.deepcopy(block)
    fast.reference = False
    return block, fast


def outputs_and_gradients(block, x, cotangent):
    x = x.clone().requires_grad_()
    y = block(x)
    parameters = {name: p for name, p in block.named_parameters() if p.requires_grad}
    grads = torch.autograd.grad((y * cotangent).sum(), [x, *parameters.values()])
    return y.detach(), dict(zip(["input", *parameters], grads, strict=True))


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
@pytest.mark.parametrize("shape", [(3, 8, 7, 6), (2, 16, 16, 16), (5, 33, 2, 3)], ids=str)
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_both_implementations_agree(space, shape, training, monkeypatch):
    two_samples_at_a_time(shape, monkeypatch)
    reference, fast = (block.train(training) for block in pair(space, shape[1]))
    without = copy.deepcopy(fast)
    x, cotangent = draw(*shape, dtype=torch.float64), draw(*shape, seed=1, dtype=torch.float64)
    with kernels.backend("torch"):
        y, grads = outputs_and_gradients(reference, x, cotangent)
        others = [(without, *outputs_and_gradients(without, x, cotangent))]
    others.append((fast, *outputs_and_gradients(fast, x, cotangent)))
    for block, again, fast_grads in others:
        assert_close(again, y, tolerance=1e-12)
        for name, grad in grads.items():
            assert_close(fast_grads[name], grad, tolerance=1e-12)
        for name, value in reference.named_buffers():
            assert_close(dict(block.named_buffers())[name].double(), value.double(), tolerance=1e-12)


def two_samples_at_a_time(shape, monkeypatch):
    monkeypatch.setattr(chunks, "_kept", type(chunks._kept)())
    monkeypatch.setattr(chunks, "BYTES", 8 * 2 * shape[1] * shape[2] * shape[3])


def test_float32_is_as_close_to_the_truth_as_the_definition():
    exact, _ = pair(SPACES["release"], 16)
    reference, fast = (copy.deepcopy(exact).float() for _ in range(2))
    fast.reference = False
    x, cotangent = draw(4, 16, 32, 32, dtype=torch.float64), draw(4, 16, 32, 32, seed=1, dtype=torch.float64)
    _, truth = outputs_and_gradients(exact, x, cotangent)
    errors = {}
    for name, block in (("reference", reference), ("fast", fast)):
        _, grads = outputs_and_gradients(block, x.float(), cotangent.float())
        errors[name] = max(((grads[key] - truth[key]).abs().max() / truth[key].abs().max()).item() for key in truth)
    assert errors["fast"] < 2 * errors["reference"] + 1e-6


@pytest.mark.parametrize("backend", ["auto", "torch"])
def test_half_precision_inputs_and_autocast(backend):
    reference, fast = pair(SPACES["release"], 8, torch.float32)
    x, cotangent = draw(2, 8, 6, 6, dtype=torch.bfloat16), draw(2, 8, 6, 6, seed=1, dtype=torch.bfloat16)
    with kernels.backend("torch"):
        y, grads = outputs_and_gradients(reference, x, cotangent)
        with torch.autocast("cpu", torch.bfloat16):
            of_float = reference(x.float())
    with kernels.backend(backend):
        found, found_grads = outputs_and_gradients(fast, x, cotangent)
        with torch.autocast("cpu", torch.bfloat16):
            assert_close(fast(x.float()), of_float, tolerance=1e-5)
    assert found.dtype == torch.bfloat16
    assert_close(found, y)
    for name, grad in grads.items():
        assert_close(found_grads[name], grad, torch.bfloat16)


def test_channels_last():
    reference, fast = pair(SPACES["release"], 8)
    x = draw(3, 8, 5, 6, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    y, grads = outputs_and_gradients(fast, x, torch.ones_like(x))
    assert y.is_contiguous(memory_format=torch.channels_last)
    expected, expected_grads = outputs_and_gradients(reference, x, torch.ones_like(x))
    assert_close(y, expected, tolerance=1e-12)
    assert_close(grads["input"], expected_grads["input"], tolerance=1e-12)


def test_one_map_is_kept_for_the_backward_pass():
    """The input; the gated map is not even made."""
    _, fast = pair(SPACES["release"], 32, torch.float32)
    x = draw(2, 32, 12, 12).requires_grad_()
    kept, made = {}, []

    def pack(value):
        kept[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
        return value

    class Maps(TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor) and result.shape == x.shape:
                made.append(function.__name__)
            return result

    with Maps(), torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
        fast(x)
    assert kept.pop(x.untyped_storage().data_ptr()) == x.nbytes
    assert max(kept.values()) < x.nbytes
    assert set(made) <= {"contiguous", "view_as", "empty_like"}


def test_triton_where_it_cannot_run(monkeypatch):
    monkeypatch.setattr(dispatch, "_is_installed", lambda: True)
    monkeypatch.setattr(dispatch, "_is_interpreted", lambda: False)
    _, fast = pair(SPACES["release"], 8)
    with (
        kernels.backend("triton"),
        pytest.raises(RuntimeError, match="kernels take CUDA tensors .* got one on cpu"),
    ):
        fast(draw(2, 8, 4, 4, dtype=torch.float64))


@pytest.mark.parametrize("fill", [0.0, -2.0, 1e6, 1e-30])
@pytest.mark.parametrize("shape", [(2, 8, 1, 1), (1, 8, 4, 4)], ids=str)
def test_constant_maps_are_finite(fill, shape):
    _, fast = pair(SPACES["release"], 8, torch.float32)
    x = torch.full(shape, fill)
    y, grads = outputs_and_gradients(fast, x, torch.ones_like(x))
    assert torch.isfinite(y).all()
    assert all(torch.isfinite(grad).all() for grad in grads.values())


def test_dead_channels_and_maps_have_finite_gradients():
    _, fast = pair(SPACES["release"], 8, torch.float32)
    x = draw(3, 8, 5, 5)
    x[0], x[1, 3], x[2, :, 2, 2] = 0, 0, 0
    y, grads = outputs_and_gradients(fast, x, torch.ones_like(x))
    assert torch.isfinite(y).all()
    assert all(torch.isfinite(grad).all() for grad in grads.values())


def test_operations_that_only_look_alike_are_evaluated_by_themselves(monkeypatch):
    class Louder(channel_squeeze.ChannelGAP):
        def forward(self, x):
            return 2 * super().forward(x)

    class Rows(reductions.GAP):  # over other axes than its edge's
        axes = (3,)

        def forward(self, x):
            return statistics.mean(x, [2, 3]) + 0 * super().forward(x).mean(2, keepdim=True)

    class Twice(Op):
        def forward(self, z):
            return 2 * z

    class Range(Op):
        def forward(self, x):
            return x.amax(1, keepdim=True) - x.amin(1, keepdim=True)

    class Quieter(spatial_squeeze.SpatialGSoP):
        def forward(self, x):
            return 0.5 * super().forward(x)

    monkeypatch.setitem(OP_SETS["spatial_squeeze"], "range", Range)
    monkeypatch.setitem(OP_SETS["spatial_squeeze"], "quieter", Quieter)
    monkeypatch.setitem(OP_SETS["channel_squeeze"], "louder", Louder)
    monkeypatch.setitem(OP_SETS["channel_squeeze"], "rows", Rows)
    monkeypatch.setitem(OP_SETS["channel_excite"], "twice", Twice)
    ops = {edge: names[:3] for edge, names in SPACES["release"].ops.items()}
    ops |= {"channel_squeeze": ("louder", "gap", "rows"), "channel_gate": ("twice",)}
    x = draw(2, 8, 4, 5, dtype=torch.float64)
    for of_gated in (("range",), ("quieter", "gap_std", "range", "l2norm")):
        reference, fast = pair(SearchSpace(ops | {"spatial_squeeze_gated": of_gated}), 8)
        y, grads = outputs_and_gradients(reference, x, torch.ones_like(x))
        found, found_grads = outputs_and_gradients(fast, x, torch.ones_like(x))
        assert_close(found, y, tolerance=1e-12)
        for name, grad in grads.items():
            assert_close(found_grads[name], grad, tolerance=1e-12)


def sums_of(x, mean, scale, weights):
    """By the formula."""
    u = ((x - mean) * scale)[:, None] * weights[..., None, None]
    return u.sum(2), u.square().sum(2)


def sums_arguments(dtype=torch.float64):
    x, mean, scale = draw(3, 4, 2, 3), draw(3, 4, 1, 1, seed=1), draw(3, 4, 1, 1, seed=2).abs()
    return [value.to(dtype).requires_grad_() for value in (x, mean, scale, draw(3, 2, 4, seed=3))]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_standardised_sums(dtype, layout, monkeypatch):
    two_samples_at_a_time((3, 4, 2, 3), monkeypatch)
    x, *rows = sums_arguments(torch.float64 if dtype == torch.float64 else torch.float32)
    leaves = [x.detach().to(dtype).contiguous(memory_format=layout).requires_grad_(), *rows]
    cotangents = [draw(3, 2, 2, 3, seed=seed, dtype=rows[0].dtype) for seed in (4, 5)]
    found = standardised_sums(*leaves)
    expected = sums_of(*leaves)
    for value, wanted in zip(found, expected, strict=True):
        assert value.dtype == wanted.dtype
        assert_close(value, wanted)
    of_found, of_expected = (torch.autograd.grad(values, leaves, cotangents) for values in (found, expected))
    for value, wanted in zip(of_found, of_expected, strict=True):
        assert_close(value, wanted)


def test_standardised_sums_of_a_mean_far_above_the_deviation():
    exact = draw(2, 16, 6, 6, dtype=torch.float64) + 1e3
    x = exact.float()
    mean, scale = x.double().mean((2, 3), keepdim=True), 1 / x.double().std((2, 3), keepdim=True)
    rows = mean.float(), scale.float(), torch.ones(2, 1, 16)
    for value, wanted in zip(
        standardised_sums(x, *rows), sums_of(x.double(), *(r.double() for r in rows)), strict=True
    ):
        assert_close(value, wanted, tolerance=1e-6)


def test_gradients_of_gradients_of_standardised_sums():
    leaves = sums_arguments()
    assert torch.autograd.gradcheck(standardised_sums, leaves)
    assert torch.autograd.gradgradcheck(standardised_sums, leaves)
    first = standardised_sums(*leaves)[0]
    cotangents = torch.eye(6, dtype=torch.float64).reshape(6, 1, 1, 2, 3).expand(6, 3, 2, 2, 3)
    batched = torch.autograd.grad(first, leaves[0], cotangents, is_grads_batched=True, retain_graph=True)[0]
    for value, cotangent in zip(batched, cotangents, strict=True):
        assert_close(value, torch.autograd.grad(first, leaves[0], cotangent, retain_graph=True)[0])


def test_transforms_get_the_definition():
    """Forward over reverse mode against double backward through the definition."""
    reference, fast = (block.eval() for block in pair(SPACES["release"], 8))
    x, direction = draw(2, 8, 4, 4, dtype=torch.float64), draw(2, 8, 4, 4, seed=1, dtype=torch.float64)
    name = "architecture.alpha"

    def gradient(x):
        def loss(alpha):
            return torch.func.functional_call(fast, {name: alpha}, (x,)).square().sum()

        return torch.func.grad(loss)(fast.shared_architecture.alpha.detach())

    _, found = torch.func.jvp(gradient, (x,), (direction,))
    x.requires_grad_()
    (first,) = torch.autograd.grad(reference(x).square().sum(), reference.shared_architecture.alpha, create_graph=True)
    cotangent = torch.zeros_like(first, requires_grad=True)
    (back,) = torch.autograd.grad(first, x, cotangent, create_graph=True)
    (expected,) = torch.autograd.grad((back * direction).sum(), cotangent)
    assert_close(found, expected, tolerance=1e-10)
