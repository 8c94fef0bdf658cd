"""The recipe `release` starts where the release's script starts, and steps as it does; its one fault is a switch."""

import pytest
import torch
from inputs import draw
from release_search import ALPHA, ReleaseSearch

from sase_attn.search import SEARCHES
from sase_attn.search.shared_weights.bilevel import Bilevel
from sase_attn.search.shared_weights.network import architecture_of, create_supernet, prepare
from sase_attn.search.shared_weights.optimizers import create_optimizers

pytestmark = pytest.mark.usefixtures("one_thread")
RELEASE = SEARCHES["release"]


def supernet(config=RELEASE):
    model = create_supernet(config, num_classes=10, in_chans=3, size=(32, 32)).double().train()
    architecture = architecture_of(model, config.search_space())
    prepare(model, architecture, config)
    return model, architecture.alpha


def weights(model):
    return {name: p for name, p in model.named_parameters() if p.requires_grad and name != ALPHA}


def searcher(config):
    model, alpha = supernet(config)
    optimizers = create_optimizers(config, model, alpha)
    options = dict(order=config.order, hvp=config.hvp, radius=config.radius, unmoved=config.unmoved)
    return Bilevel(model, alpha, *optimizers, clip_grad=config.clip_grad, **options)


def batches(count, size):
    generator = torch.Generator().manual_seed(0)
    return [(draw(count, 3, size, size).double(), torch.randint(10, (count,), generator=generator)) for _ in range(2)]


def test_as_many_weights_as_the_release_and_as_many_that_stay():
    found = weights(supernet()[0])
    assert sum(p.numel() for p in found.values()) == 459_455
    (stage,) = RELEASE.unmoved
    assert sum(p.numel() for name, p in found.items() if name.startswith(f"{stage}.")) == 265_519


def test_convolutions_start_as_torch_draws_them():
    """Uniform within 1/√fan-in, the two weights of mixers too; another seed is another draw."""
    found = weights(supernet()[0])
    for name, p in found.items():
        if p.ndim == 4 and ("conv" in name or "mix" in name):
            bound = p[0].numel() ** -0.5
            assert p.abs().max() <= bound, name
            assert p.numel() < 100 or p.std().item() == pytest.approx(bound / 3**0.5, rel=0.05), name
    mixers = torch.cat([p.flatten() for name, p in found.items() if "mix" in name])
    assert mixers.std() > 0.3 and mixers.min() < 0
    other = weights(supernet(RELEASE.override(seed=3))[0])
    assert not torch.equal(other["conv1.weight"], found["conv1.weight"])
    ours = weights(supernet(RELEASE.override(conv_init="timm"))[0])
    assert (ours["layer3.0.bn2.attn.mix.weight"] == 0.5).all()
    assert ours["layer3.2.conv2.weight"].std() > 2 * found["layer3.2.conv2.weight"].std()


@pytest.mark.parametrize(("order", "steps"), [(1, 1), (2, 2)])
def test_steps_are_those_of_the_release(order, steps):
    """As the script runs by default, and with `--unrolled`, whose last stage takes no virtual step; with momentum."""
    bilevel = searcher(RELEASE.override(order=order))
    start = weights(bilevel.model) | {ALPHA: bilevel.alpha}
    theirs = ReleaseSearch(start, unrolled=order == 2, still="layer3.")
    train, val = batches(3, 32)
    for _ in range(steps):
        bilevel.step(train, val)
        theirs.step(train, val)
    assert (bilevel.alpha - theirs.values[ALPHA]).abs().max() <= 1e-13
    for name, weight in weights(bilevel.model).items():
        assert (weight - theirs.values[name]).abs().max() <= 1e-13 * max(1, weight.abs().max()), name
