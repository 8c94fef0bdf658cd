"""The shared implementation of a super-network block against its definition, in float64; its statistics."""

import copy

import pytest
import torch
from inputs import draw, randomise
from tolerances import assert_close

from sase_attn import list_ops, statistics
from sase_attn.genotype import EDGES
from sase_attn.ops import OP_SETS, Op, channel_squeeze, reductions
from sase_attn.search import SearchBlock, SearchSpace
from sase_attn.search import moments as moments_module
from sase_attn.search.moments import CHANNELS, SPACE, moments

pytestmark = pytest.mark.usefixtures("one_thread")
EVERYTHING = SearchSpace({edge: tuple(list_ops(op_set)) for edge, op_set in EDGES.items()})
SPACES = {"release": SearchSpace.get("release"), "paper": SearchSpace.get("paper"), "all operations": EVERYTHING}


def pair(space, channels, dtype=torch.float64):
    """The same block twice, by its definition and shared, with distinct alphas."""
    block = randomise(SearchBlock(channels, space, plain=True, dtype=dtype))
    torch.manual_seed(2)
    with torch.no_grad():
        block.shared.alpha.copy_(torch.randn_like(block.shared.alpha))
    twin = copy.deepcopy(block)
    twin.plain = False
    return block, twin


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
    monkeypatch.setattr(moments_module, "CHUNK_BYTES", 8 * 2 * shape[1] * shape[2] * shape[3])  # two samples at a time
    plain, shared = (block.train(training) for block in pair(space, shape[1]))
    x, cotangent = draw(*shape, dtype=torch.float64), draw(*shape, seed=1, dtype=torch.float64)
    y, grads = outputs_and_gradients(plain, x, cotangent)
    again, shared_grads = outputs_and_gradients(shared, x, cotangent)
    assert_close(again, y, tolerance=1e-12)
    for name, grad in grads.items():
        assert_close(shared_grads[name], grad, tolerance=1e-12)
    for name, value in plain.named_buffers():
        assert_close(dict(shared.named_buffers())[name].double(), value.double(), tolerance=1e-12)


def test_float32_is_as_close_to_the_truth_as_the_definition():
    exact, _ = pair(SPACES["release"], 16)
    plain, shared = (copy.deepcopy(exact).float() for _ in range(2))
    shared.plain = False
    x, cotangent = draw(4, 16, 32, 32, dtype=torch.float64), draw(4, 16, 32, 32, seed=1, dtype=torch.float64)
    _, truth = outputs_and_gradients(exact, x, cotangent)
    errors = {}
    for name, block in (("plain", plain), ("shared", shared)):
        _, grads = outputs_and_gradients(block, x.float(), cotangent.float())
        errors[name] = max(((grads[key] - truth[key]).abs().max() / truth[key].abs().max()).item() for key in truth)
    assert errors["shared"] < 2 * errors["plain"] + 1e-6


def test_half_precision_inputs_and_autocast():
    plain, shared = pair(SPACES["release"], 8, torch.float32)
    x = draw(2, 8, 6, 6, dtype=torch.bfloat16)
    assert shared(x).dtype == torch.bfloat16
    with torch.autocast("cpu", torch.bfloat16):
        assert_close(shared(x.float()), plain(x.float()), tolerance=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("group", [SPACE, CHANNELS], ids=["space", "channels"])
def test_moments_are_the_statistics(dtype, group):
    dims = list(group)
    x = draw(3, 5, 4, 6, dtype=dtype)
    x[1] *= 1e-20
    x[2, :, 1] = 2.5  # ties
    (found,) = moments(x, group)
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5
    for value, function in (
        (found.mean, statistics.mean),
        (found.maximum, statistics.maximum),
        (found.l4, statistics.l4),
    ):
        for got, wanted in zip(value, function(x, dims), strict=True):  # sample by sample: their scales differ
            assert_close(got, wanted, tolerance=tolerance)
    assert_close(found.variance[::2], x[::2].var(dims, keepdim=True, correction=0), tolerance=tolerance)
    assert_close(found.third[::2], statistics.third_moment(x[::2], dims), tolerance=tolerance)
    assert found.elements == (24 if group == SPACE else 5)


@pytest.mark.parametrize("groups", [(SPACE,), (CHANNELS,), (SPACE, CHANNELS)], ids=str)
def test_moments_pass_gradcheck(groups):
    x = draw(3, 4, 3, 2, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: tuple(value for found in moments(x, *groups) for value in found[:5]), x, atol=1e-8
    )


@pytest.mark.parametrize("group", [SPACE, CHANNELS], ids=["space", "channels"])
def test_ties_share_the_gradient_of_the_maximum(group):
    x = torch.tensor([1.0, 3.0, 3.0, 3.0, 3.0, 0.0]).reshape(1, 2, 3, 1).requires_grad_()
    (expected,) = torch.autograd.grad(x.amax(group).sum(), x)
    (found,) = moments(x, group)
    assert torch.equal(torch.autograd.grad(found.maximum.sum(), x)[0], expected)


@pytest.mark.parametrize("value", [0.0, 1.0, -2.0, 1e12, 1e-30], ids=str)
@pytest.mark.parametrize("shape", [(2, 6, 1, 1), (2, 1, 3, 3), (1, 8, 4, 4)], ids=str)
def test_constant_maps_are_finite(value, shape):
    x = torch.full(shape, value).requires_grad_()
    found = moments(x, SPACE, CHANNELS)
    total = sum(
        (v / max(1.0, abs(value)) ** power).sum()
        for m in found
        for v, power in zip(m[:5], (1, 1, 0, 0, 1), strict=True)
    )
    assert all(torch.isfinite(v).all() for m in found for v in m[:5])
    assert torch.isfinite(torch.autograd.grad(total, x)[0]).all()


def test_dead_channels_and_maps_have_finite_gradients():
    _, shared = pair(SPACES["release"], 8, torch.float32)
    x = draw(3, 8, 5, 5)
    x[0], x[1, 3], x[2, :, 2, 2] = 0, 0, 0
    y, grads = outputs_and_gradients(shared, x, torch.ones_like(x))
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

    monkeypatch.setitem(OP_SETS["channel_squeeze"], "louder", Louder)
    monkeypatch.setitem(OP_SETS["channel_squeeze"], "rows", Rows)
    monkeypatch.setitem(OP_SETS["channel_excite"], "twice", Twice)
    ops = {edge: names[:3] for edge, names in SPACES["release"].ops.items()}
    space = SearchSpace(ops | {"channel_squeeze": ("louder", "gap", "rows"), "channel_gate": ("twice",)})
    plain, shared = pair(space, 8)
    x = draw(2, 8, 4, 5, dtype=torch.float64)
    assert_close(shared(x), plain(x), tolerance=1e-12)


def test_transforms_get_the_definition():
    """Forward over reverse mode, which `hvp="exact"` needs, against double backward through the definition."""
    plain, shared = (block.eval() for block in pair(SPACES["release"], 8))
    x, direction = draw(2, 8, 4, 4, dtype=torch.float64), draw(2, 8, 4, 4, seed=1, dtype=torch.float64)
    name = "architecture.alpha"

    def gradient(x):
        def loss(alpha):
            return torch.func.functional_call(shared, {name: alpha}, (x,)).square().sum()

        return torch.func.grad(loss)(shared.shared.alpha.detach())

    _, found = torch.func.jvp(gradient, (x,), (direction,))
    x.requires_grad_()
    (first,) = torch.autograd.grad(plain(x).square().sum(), plain.shared.alpha, create_graph=True)
    cotangent = torch.zeros_like(first, requires_grad=True)
    (back,) = torch.autograd.grad(first, x, cotangent, create_graph=True)
    (expected,) = torch.autograd.grad((back * direction).sum(), cotangent)
    assert_close(found, expected, tolerance=1e-10)
