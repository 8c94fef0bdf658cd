"""The gradient of alpha against autograd through the unrolled step, in float64; what a step leaves untouched."""

import copy

import pytest
import torch
from torch import nn
from torch.func import functional_call

from sase_attn.errors import UnknownNameError
from sase_attn.search.shared_weights.bilevel import Bilevel, DivergedError

pytestmark = pytest.mark.usefixtures("one_thread")
DOUBLE = torch.float64


class Smooth(nn.Module):
    """A mixture of layers without kinks, with batch norm and a buffer that counts."""

    def __init__(self):
        super().__init__()
        self.alpha = nn.Parameter(torch.randn(3, dtype=DOUBLE))
        self.layers = nn.ModuleList(nn.Linear(5, 6, dtype=DOUBLE) for _ in range(3))
        self.norm = nn.BatchNorm1d(6, dtype=DOUBLE)
        self.out = nn.Linear(6, 4, dtype=DOUBLE)
        self.unused = nn.Parameter(torch.ones(2, dtype=DOUBLE))

    def forward(self, x):
        weights = self.alpha.softmax(0)
        outputs = [nn.functional.softplus((i + 1) * layer(x)) for i, layer in enumerate(self.layers)]
        mixed = sum(p * y for p, y in zip(weights, outputs, strict=True))
        return self.out(nn.functional.softplus(self.norm(mixed)))


def batch(seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(16, 5, dtype=DOUBLE, generator=generator), torch.randint(4, (16,), generator=generator)


TRAIN, VAL = batch(1), batch(2)


def searcher(warm=3, momentum=0.9, **options):
    """A bilevel step over a network that has taken a few steps, with two learning rates."""
    torch.manual_seed(0)
    model = Smooth()
    weights = [p for name, p in model.named_parameters() if name != "alpha"]
    groups = [dict(params=weights[:3], lr=0.3), dict(params=weights[3:], lr=0.1, weight_decay=0.0)]
    optimizer = torch.optim.SGD(groups, momentum=momentum, weight_decay=0.05)
    alpha_optimizer = torch.optim.Adam([model.alpha], lr=0.01, betas=(0.5, 0.999), weight_decay=1e-3)
    parts = model, model.alpha, optimizer, alpha_optimizer
    for _ in range(warm):
        Bilevel(*parts, order=1, clip_grad=None).step(TRAIN, VAL)
    return Bilevel(*parts, **{"clip_grad": None, "hvp": "fd"} | options)


def unrolled(bilevel):
    """dα by autograd through one step of SGD with momentum and weight decay."""
    model = copy.deepcopy(bilevel.model)
    alpha = bilevel.alpha.detach().clone().requires_grad_()
    weights = [w.detach().clone().requires_grad_() for w in bilevel.weights]

    def loss(weights, batch):
        values = {"alpha": alpha, **dict(zip(bilevel.weight_names, weights, strict=True))}
        return nn.functional.cross_entropy(functional_call(model, values, (batch[0],)), batch[1])

    grads = torch.autograd.grad(loss(weights, TRAIN), weights, create_graph=True, materialize_grads=True)
    moved = []
    for weight, original, grad in zip(weights, bilevel.weights, grads, strict=True):
        group = next(g for g in bilevel.optimizer.param_groups if any(p is original for p in g["params"]))
        buffer = bilevel.optimizer.state.get(original, {}).get("momentum_buffer")
        step = grad + group["weight_decay"] * weight + (0 if buffer is None else group["momentum"] * buffer)
        moved.append(weight - group["lr"] * step)
    return torch.autograd.grad(loss(moved, VAL), alpha)[0]


@pytest.mark.parametrize("warm, momentum", [(3, 0.9), (0, 0.9), (3, 0.0)], ids=["momentum", "first step", "plain SGD"])
def test_exact_second_order_is_the_gradient_through_the_step(warm, momentum):
    bilevel = searcher(warm, momentum, hvp="exact")
    truth = unrolled(bilevel)
    gradient, second, _ = bilevel.alpha_gradient(TRAIN, VAL)
    assert (gradient - truth).abs().max() < 1e-8 * truth.abs().max()
    assert second.norm() > 0.05 * truth.norm()  # the term is there


def test_finite_difference_converges_with_the_square_of_the_radius():
    truth = unrolled(searcher())
    errors = [
        ((searcher(radius=radius).alpha_gradient(TRAIN, VAL)[0] - truth).abs().max() / truth.abs().max()).item()
        for radius in (1e-1, 1e-2, 1e-3)
    ]
    assert errors[0] < 1e-2
    for larger, smaller in zip(errors[:-1], errors[1:], strict=True):
        assert larger / smaller == pytest.approx(100, rel=0.05)


def test_first_order_is_the_gradient_at_the_weights():
    bilevel = searcher(order=1)
    model = copy.deepcopy(bilevel.model)
    (truth,) = torch.autograd.grad(nn.functional.cross_entropy(model(VAL[0]), VAL[1]), model.alpha)
    gradient, second, _ = bilevel.alpha_gradient(TRAIN, VAL)
    assert torch.equal(gradient, truth) and not second.any()


@pytest.mark.parametrize("options", [dict(order=1), dict(hvp="fd"), dict(hvp="exact")], ids=str)
def test_virtual_passes_leave_every_bit(options):
    bilevel = searcher(**options)
    before = copy.deepcopy(bilevel.model.state_dict())
    state = copy.deepcopy(bilevel.optimizer.state_dict()["state"])
    bilevel.alpha_gradient(TRAIN, VAL)
    for key, value in bilevel.model.state_dict().items():
        assert torch.equal(value, before[key]), key
    for index, values in bilevel.optimizer.state_dict()["state"].items():
        assert torch.equal(values["momentum_buffer"], state[index]["momentum_buffer"])
    assert all(p.requires_grad and p.grad is None for p in bilevel.model.parameters())


def test_weights_come_back_when_a_pass_fails():
    bilevel = searcher()
    before = [w.detach().clone() for w in bilevel.weights]
    calls = []

    def failing(logits, targets):
        calls.append(None)
        if len(calls) == 3:  # the first pass of the finite difference
            raise RuntimeError("no")
        return nn.functional.cross_entropy(logits, targets)

    bilevel.criterion = failing
    with pytest.raises(RuntimeError, match="no"):
        bilevel.alpha_gradient(TRAIN, VAL)
    assert all(torch.equal(w, old) and w.requires_grad for w, old in zip(bilevel.weights, before, strict=True))


def test_a_step_moves_alpha_first_and_counts_one_batch():
    bilevel = searcher(clip_grad=0.01)
    expected = copy.deepcopy(bilevel)
    gradient, _, val_loss = expected.alpha_gradient(TRAIN, VAL)
    expected.alpha.grad = gradient
    expected.alpha_optimizer.step()
    loss = nn.functional.cross_entropy(expected.model(TRAIN[0]), TRAIN[1])
    loss.backward()
    norm = nn.utils.clip_grad_norm_(expected.weights, 0.01)
    expected.optimizer.step()
    batches = bilevel.model.norm.num_batches_tracked.item()
    report = bilevel.step(TRAIN, VAL)
    assert torch.equal(bilevel.alpha, expected.alpha)
    for name, value in bilevel.model.state_dict().items():
        assert torch.allclose(value, expected.model.state_dict()[name], rtol=0, atol=1e-15), name
    assert bilevel.model.norm.num_batches_tracked == batches + 1
    assert (report.train_loss, report.val_loss) == (loss.item(), val_loss)
    assert report.weight_grad_norm == pytest.approx(norm.item())
    assert -1 <= report.second_order_cosine <= 1 and report.second_order_norm > 0


def test_every_gradient_of_a_step_is_reduced():
    """As two processes with half a batch each would: halves averaged give the numbers of the whole."""
    seen = []
    bilevel = searcher(reduce=lambda tensors: seen.append(len(tensors)))
    bilevel.step(TRAIN, VAL)
    weights = len(bilevel.weights)
    assert seen == [weights, weights + 1, 1, weights - 1]  # virtual, (dα, v), second order, weights but the unused one


def test_wrong_settings_are_refused():
    with pytest.raises(ValueError, match="order: wanted 1 or 2, got 3"):
        searcher(order=3)
    with pytest.raises(UnknownNameError, match="unknown hvp 'exakt'; did you mean exact"):
        searcher(hvp="exakt")
    model = Smooth()
    adam = torch.optim.Adam([model.alpha])
    weights = [p for name, p in model.named_parameters() if name != "alpha"]
    with pytest.raises(ValueError, match="got nesterov=True"):
        Bilevel(model, model.alpha, torch.optim.SGD(weights, 0.1, 0.9, nesterov=True), adam)
    with pytest.raises(ValueError, match="the optimizer does not have unused, layers.0.weight"):
        Bilevel(model, model.alpha, torch.optim.SGD(weights[2:], 0.1), adam)
    with pytest.raises(ValueError, match="not a parameter of the model"):
        Bilevel(model, nn.Parameter(torch.zeros(3)), torch.optim.SGD(weights, 0.1), adam)


def test_a_penalty_is_added_to_the_validation_loss():
    plain, penalised = searcher(), searcher()
    gradient, _, _ = plain.alpha_gradient(TRAIN, VAL)
    penalised.penalty = lambda: 3.0 * penalised.alpha.square().sum()
    penalised.alpha_optimizer = torch.optim.SGD([penalised.alpha], lr=1.0)
    before = penalised.alpha.detach().clone()
    penalised.alpha_step(TRAIN, VAL)
    torch.testing.assert_close(penalised.alpha.detach(), before - gradient - 6 * before, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("case", ["validation", "training", "too large", "gradient"])
def test_what_diverged_leaves_weights_and_alpha_as_they_were(case):
    bilevel = searcher(max_loss=1e-3 if case == "too large" else float("inf"), explain=lambda model, loss: "the layer")
    before = copy.deepcopy(bilevel.model.state_dict())
    bad = (VAL[0] * float("nan"), VAL[1])
    if case == "gradient":
        bilevel.criterion = lambda logits, targets: (logits * 0).square().sum().sqrt()
    batches = {"validation": (TRAIN, bad), "training": (bad, VAL)}.get(case, (TRAIN, VAL))
    with pytest.raises(DivergedError, match="; it comes from the layer"):
        bilevel.step(*batches)
    for key, value in bilevel.model.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_a_loaded_optimizer_state_counts_in_the_virtual_step():
    """Loading replaces the optimizer's groups; a virtual step with the old learning rate would be another search."""
    bilevel, other = searcher(), searcher()
    for group in bilevel.optimizer.param_groups:
        group["lr"] *= 0.1
    other.optimizer.load_state_dict(bilevel.optimizer.state_dict())
    assert torch.equal(bilevel.alpha_gradient(TRAIN, VAL)[0], other.alpha_gradient(TRAIN, VAL)[0])
