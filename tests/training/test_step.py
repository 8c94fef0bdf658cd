"""One step of training and one evaluation, by hand: what reaches the loss, and what each rank's images weigh."""

import json

import pytest
import torch
import uneven_step
import warm
from torch import nn
from torch.nn.functional import cross_entropy, log_softmax
from uneven_step import linear

from sase_attn.training import Recipe, evaluate
from sase_attn.training.distributed import Ranks
from sase_attn.training.step import Trainer

CPU = Ranks(0, 1, torch.device("cpu"))
IMAGES, TARGETS = uneven_step.batch()


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_label_smoothing_reaches_the_loss(smoothing):
    recipe = Recipe(label_smoothing=smoothing, weight_decay=0.0)
    model = linear()
    logs = log_softmax(model(IMAGES), dim=-1)
    right = logs[torch.arange(7), TARGETS].mean()
    expected = -(1 - smoothing) * right - smoothing * logs.mean()
    loss, count, _ = Trainer(recipe, model, CPU, 10).step(IMAGES, TARGETS)
    assert count == 7 and loss == pytest.approx(expected.item(), rel=1e-6)


def test_top_5_counts_the_fifth_and_not_the_sixth():
    model = nn.Linear(1, 6, bias=False)
    model.weight.data = torch.tensor([[6.0, 5, 4, 3, 2, 1]]).mT.clone()
    for target, right in enumerate([100, 100, 100, 100, 100, 0]):
        metrics = evaluate(model, [(torch.ones(1, 1), torch.tensor([target]))])
        assert (metrics.top1, metrics.top5) == (100 * (target == 0), right)


def test_ranks_with_unequal_shares_of_a_batch_take_the_step_of_one_process():
    ends = warm.run_ranks(2, uneven_step.__file__)
    assert all(end.returncode == 0 for end in ends), ends[0].stderr
    for line, weights in ((-2, None), (-1, uneven_step.WEIGHTS)):
        model = linear()
        loss = cross_entropy(model(IMAGES), TARGETS, weight=weights)
        (gradient,) = torch.autograd.grad(loss, [model.weight])
        for end in ends:
            step = json.loads(end.stdout.splitlines()[line])
            assert step["count"] == 7 and step["loss"] == pytest.approx(loss.item(), rel=1e-6)
            torch.testing.assert_close(torch.tensor(step["weight"]), model.weight - gradient)
