"""The search's loop: which batches alpha sees, how the learning rate falls and how the penalties grow."""

import math
from itertools import islice

import pytest
import search_driver as driver
import torch

from sase_attn.search.shared_weights.halves import open_halves
from sase_attn.search.shared_weights.loop import Searcher
from sase_attn.search.shared_weights.network import create_supernet
from sase_attn.search.shared_weights.penalty import beta_penalty, entropy_penalty
from sase_attn.training.distributed import Ranks

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = Ranks(0, 1, torch.device("cpu"))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return driver.image_folder(tmp_path_factory.mktemp("data") / "corners")


def searcher(data, folder, **changes):
    config = driver.tiny(data, augment="none", without=["gsop"], **changes)
    halves = open_halves(config, CPU)
    model = create_supernet(config, num_classes=3, in_chans=3, echo=lambda line: None)
    return Searcher(config, model, halves, folder, CPU, echo=lambda line: None)


def seen(batches):
    """Which image each place of each batch holds, by its first pixels."""
    return [tuple(image.flatten()[:20].tolist()) for images, _ in batches for image in images]


def test_in_order_epoch_alpha_sees_each_image_once(data, tmp_path):
    made = searcher(data, tmp_path, val_order="epoch")
    count = made.data.alpha.batches
    images = seen(islice(made.alpha_batches(), count))
    assert len(set(images)) == len(images) == 36


def test_in_order_fresh_each_batch_of_alpha_is_drawn_from_all(data, tmp_path):
    made = searcher(data, tmp_path, val_order="fresh")
    batches = list(islice(made.alpha_batches(), 12))
    images = seen(batches)
    assert all(len(targets) == 8 for _, targets in batches) and len(images) == 96
    assert all(len(set(seen([batch]))) == 8 for batch in batches)
    assert len(set(seen(batches[:4]))) < 32  # four batches of one pass would share no image
    made.progress.step = 5
    assert seen([next(made.alpha_batches())]) == seen(batches[5:6])  # so a resumed search goes on with its own


def test_learning_rate_falls_by_a_cosine_to_min_lr(data, tmp_path):
    made = searcher(data, tmp_path, epochs=4, lr=0.1, min_lr=0.04)
    rates = []
    for epoch in range(4):
        made.progress.epoch = epoch
        next(iter(made.batches()))
        rates.append(made.lr)
    assert rates == [pytest.approx(0.04 + 0.06 * (1 + math.cos(math.pi * epoch / 4)) / 2) for epoch in range(4)]


@pytest.mark.parametrize(("name", "term"), [("beta", beta_penalty), ("entropy", entropy_penalty)])
def test_penalties_grow_from_nothing_to_their_strength_at_the_last_epoch(data, tmp_path, name, term, monkeypatch):
    made = searcher(data, tmp_path, epochs=5, order=1, model_kwargs={"layers": [1, 1, 1]}, **{name: 0.3})
    alpha, gradients = made.architecture.alpha, []
    whole = term(made.architecture)
    (slope,) = torch.autograd.grad(whole, [alpha])
    monkeypatch.setattr(made.alpha_optimizer, "step", lambda: gradients.append(alpha.grad.clone()))
    batch = made.place(next(iter(made.data.alpha.epoch(0))))
    for epoch in range(5):
        made.progress.epoch = epoch
        assert made._penalty().item() == pytest.approx(0.3 * whole.item() * epoch / 4, rel=1e-5)
        made.bilevel.alpha_step(batch, batch)
    for epoch in range(5):  # what Adam is given grows by the same
        torch.testing.assert_close(gradients[epoch] - gradients[0], 0.3 * slope * epoch / 4, rtol=1e-3, atol=1e-7)
