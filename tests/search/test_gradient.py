"""The gradient of alpha on a network that is searched, with its ReLUs, maxima and batch norms, in float64."""

import statistics

import pytest
import torch
from inputs import draw
from torch import nn
from torch.func import functional_call

from sase_attn import kernels
from sase_attn.search import SEARCHES
from sase_attn.search.shared_weights.bilevel import Bilevel
from sase_attn.search.shared_weights.network import architecture_of, create_supernet, prepare
from sase_attn.search.shared_weights.optimizers import create_optimizers
from sase_attn.search.supernet.block import reference_mode

pytestmark = pytest.mark.usefixtures("one_thread")
CONFIG = SEARCHES["release"].override(model_kwargs={"layers": [1, 1, 1]}, order=2)
SIZE = 16


def batch(seed):
    torch.manual_seed(seed)
    return draw(8, 3, SIZE, SIZE).double() + torch.randn(8, 3, 1, 1).double(), torch.randint(10, (8,))


TRAIN, VAL = batch(1), batch(2)


@pytest.fixture(scope="module")
def parts():
    """A super-network after three steps, its alpha and its optimizers."""
    model = create_supernet(CONFIG, num_classes=10, in_chans=3, size=(SIZE, SIZE)).double().train()
    architecture = architecture_of(model, CONFIG.search_space())
    prepare(model, architecture, CONFIG)
    found = model, architecture.alpha, *create_optimizers(CONFIG, model, architecture.alpha)
    for seed in range(3):
        Bilevel(*found, order=1).step(batch(seed), VAL)
    return found


def gradient(parts, **options):
    return Bilevel(*parts, **options).alpha_gradient(TRAIN, VAL)[0]


def unrolled(parts):
    """By autograd through the step of SGD."""
    bilevel = Bilevel(*parts)
    model, alpha = bilevel.model, bilevel.alpha
    weights = [w.detach().clone().requires_grad_() for w in bilevel.weights]

    def loss(values, images, targets):
        named = dict(zip(bilevel.weight_names, values, strict=True)) | {bilevel.alpha_name: alpha}
        copies = {name: buffer.clone() for name, buffer in model.named_buffers()}
        return nn.functional.cross_entropy(functional_call(model, named | copies, (images,)), targets)

    with reference_mode(model), kernels.backend("torch"):
        grads = torch.autograd.grad(loss(weights, *TRAIN), weights, create_graph=True)
        moved = []
        for weight, own, grad in zip(weights, bilevel.weights, grads, strict=True):
            buffer = bilevel.optimizer.state[own]["momentum_buffer"]
            moved.append(weight - CONFIG.lr * (grad + CONFIG.weight_decay * weight + CONFIG.momentum * buffer))
        return torch.autograd.grad(loss(moved, *VAL), alpha)[0]


def error(found, truth):
    return ((found - truth).norm() / truth.norm()).item()


def test_exact_is_the_gradient_through_the_step(parts):
    truth = unrolled(parts)
    assert error(gradient(parts, hvp="exact"), truth) < 1e-11
    assert error(gradient(parts, order=1), truth) > 0.05  # the second order is there


def test_no_radius_of_the_finite_difference_is_safe(parts):
    """It crosses kinks: a smaller radius crosses fewer, and each costs more."""
    truth = gradient(parts, hvp="exact")
    errors = [error(gradient(parts, hvp="fd", radius=radius), truth) for radius in (1e-1, 1e-2, 1e-3, 1e-4)]
    assert min(errors) > 0.02
    assert statistics.median(errors) > 0.1


def test_a_stage_without_a_virtual_step_gives_another_gradient(parts):
    """As in the released code, whose last stage stays where it is; all weights have their part in the second order."""
    right, released = (gradient(parts, hvp="exact", unmoved=patterns) for patterns in ((), ("layer3",)))
    assert error(released, right) > 0.1
    everything = Bilevel(*parts, hvp="exact", unmoved=("conv1", "bn1", "layer*", "fc"))
    found, second, _ = everything.alpha_gradient(TRAIN, VAL)
    assert error(found + second, gradient(parts, order=1)) < 1e-12 and second.norm() > 0


def test_an_unknown_stage_is_refused(parts):
    with pytest.raises(ValueError, match="unknown module pattern 'layer9'; did you mean layer"):
        Bilevel(*parts, unmoved=("layer9",))


def test_exact_is_finite_behind_norms_at_zero():
    """As timm starts the last norms: every map that a block sees is zero."""
    config = SEARCHES["quick"].override(without=[])
    model = create_supernet(config, num_classes=10, in_chans=3, size=(SIZE, SIZE)).double().train()
    for name, module in model.named_modules():
        if name.endswith("bn2.host"):
            nn.init.zeros_(module.weight)
    architecture = architecture_of(model, config.search_space())
    prepare(model, architecture, config)
    parts = model, architecture.alpha, *create_optimizers(config, model, architecture.alpha)
    report = Bilevel(*parts).step(TRAIN, VAL)  # raises DivergedError for a gradient that is no number
    assert report.second_order_norm > 0
