"""Choosing a genotype: scores against networks made by hand, perturbation where the answer is known."""

import copy
import json
import threading

import pytest
import torch
from inputs import draw
from torch import nn

from sase_attn import attach
from sase_attn.genotype import EDGES
from sase_attn.lock import InUseError, one_writer
from sase_attn.search import Scorer, SearchConfig, SearchSpace
from sase_attn.search.shared_weights.choose import choose, choose_by_perturbation
from sase_attn.search.shared_weights.network import architecture_of
from sase_attn.search.shared_weights.scorer import Scored, read_scores, recalibrated
from sase_attn.training import evaluate

pytestmark = pytest.mark.usefixtures("one_thread")
SPACE = SearchSpace({edge: names[:2] for edge, names in SearchSpace.get("release").ops.items()})


def batches(count, seed):
    torch.manual_seed(seed)
    return [(torch.randn(16, 3, 12, 12) * (1 + i), torch.randint(4, (16,))) for i in range(count)]


@pytest.fixture
def scorer():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)
    )
    attach(model, after="1", attn=SPACE.block)
    return Scorer(model, architecture_of(model, SPACE), SPACE, fit=batches(3, 1), val=batches(2, 2))


def test_scores_are_those_of_the_derived_network_with_norms_fitted_anew(scorer):
    genotype = SPACE.random(1)
    before = {key: value.clone() for key, value in scorer.model.state_dict().items()}
    found = scorer.score(genotype)
    assert all(torch.equal(value, before[key]) for key, value in scorer.model.state_dict().items())
    derived = copy.deepcopy(scorer.model)
    derived[1].attn = derived[1].attn.derive(genotype)
    norms = [module for module in derived.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    collected = {norm: ([], []) for norm in norms}

    def collect(norm, inputs):
        x = inputs[0].detach()
        collected[norm][0].append(x.mean((0, 2, 3)))
        collected[norm][1].append(x.var((0, 2, 3), unbiased=True))

    handles = [norm.register_forward_pre_hook(collect) for norm in norms]
    derived.train()
    for images, _ in batches(3, 1):
        derived(images)
    for handle in handles:
        handle.remove()
    for norm, (means, variances) in collected.items():
        norm.running_mean.copy_(torch.stack(means).mean(0))
        norm.running_var.copy_(torch.stack(variances).mean(0))
    wanted = evaluate(derived, batches(2, 2))
    assert (found.top1, found.loss) == (wanted.top1, pytest.approx(wanted.loss, rel=1e-5))


def test_recalibration_is_undone_even_after_an_error(scorer):
    model = scorer.model.eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(RuntimeError, match="stop"), recalibrated(model, batches(2, 1)):
        assert not torch.equal(model[1].host.running_mean, before["1.host.running_mean"])
        raise RuntimeError("stop")
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not model.training and model[1].host.momentum == 0.1


def test_all_genotypes_are_scored_once_and_scoring_resumes(scorer, tmp_path):
    path, counts = tmp_path / "scores.jsonl", []
    few = [genotype for _, genotype in zip(range(5), SPACE, strict=False)]
    scorer.score_all(few, str(path))
    with path.open("a") as file:
        file.write('{"genotype": "chan')  # killed while it wrote
    ranked = scorer.score_all(SPACE, path, counts.append)
    assert len(ranked) == SPACE.size == 64 and counts == list(range(6, 65))
    assert {scored.genotype for scored in ranked} == set(SPACE)
    assert [scored.loss for scored in ranked] == sorted(scored.loss for scored in ranked)
    assert len([json.loads(line) for line in path.read_text().splitlines()]) == len(read_scores(path)) == 64
    again = scorer.score(ranked[0].genotype)
    assert (again.top1, again.loss) == (ranked[0].top1, ranked[0].loss)
    assert len({scored.loss for scored in ranked}) > 20  # they do differ


def test_scores_by_other_images_are_not_taken_again(scorer, tmp_path):
    """A search that is resumed may choose on more images."""
    path, genotype = tmp_path / "scores.jsonl", SPACE.random(0)
    scorer.score_all([genotype, SPACE.random(1)], path)
    model, architecture = scorer.model, scorer.architecture
    more = Scorer(model, architecture, SPACE, fit=batches(3, 1), val=batches(4, 2))
    [found] = more.score_all([genotype], path)
    assert found == more.score(genotype) != scorer.score(genotype)
    assert scorer.score_all([], path) == scorer.score_all([genotype, SPACE.random(1)], path)
    assert len(path.read_text().splitlines()) == 3


def test_the_loss_ranks_where_accuracies_jump_by_images(scorer, tmp_path, monkeypatch):
    """One image more is right by luck, or two are level: the loss tells more, and chooses."""
    made = {SPACE.random(0): (50.0, 1.3), SPACE.random(1): (49.9, 1.1), SPACE.random(2): (49.9, 1.2)}
    monkeypatch.setattr(Scorer, "score", lambda self, genotype: Scored(genotype, *made[genotype]))
    config = SearchConfig(select="score", candidates=3)
    chosen, scored = choose(config, scorer, SPACE.random(0), tmp_path, tune=lambda: None, echo=lambda line: None)
    assert chosen == SPACE.random(1)
    assert [found.loss for found in scored] == [1.1, 1.2, 1.3]


def test_one_process_scores_to_a_file(scorer, tmp_path):
    path, caught = tmp_path / "scores.jsonl", []

    def score():
        try:
            scorer.score_all([], path)
        except InUseError as error:
            caught.append(str(error))

    with one_writer(path):
        thread = threading.Thread(target=score)
        thread.start()
        thread.join()
    assert len(caught) == 1 and f"{path} is in use" in caught[0] and not path.exists()
    path.write_text('{"genotype": "x"}\n')
    with pytest.raises(ValueError, match=r"scores\.jsonl, line 1: wanted a field top1, got genotype"):
        scorer.score_all([], path)


class Mixture(nn.Module):
    """Logits that are right as far as certain operations have weight."""

    def __init__(self, good):
        super().__init__()
        block = SPACE.block(4)
        self.block, self.good = block, good
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x):
        weights = self.block.shared_architecture.weights()
        right = sum(weights[row, column] for row, column in enumerate(self.good)) - 3
        return torch.stack([right.expand(len(x)), torch.zeros(len(x))], 1) * self.weight


def test_perturbation_keeps_what_hurts_most_to_lose():
    good = (1, 0, 1, 1, 0, 1)
    model = Mixture(good)
    architecture = model.block.shared_architecture
    with torch.no_grad():  # alpha says the contrary
        for row, column in enumerate(good):
            architecture.alpha[row, column] = -0.1
    val = [(draw(8, 4, 4, 4), torch.zeros(8, dtype=torch.int64))]
    tuned = []
    scorer = Scorer(model, architecture, SPACE, fit=val, val=val)
    lines = []
    found = choose_by_perturbation(
        scorer, seed=0, tune=lambda: tuned.append(architecture.mask.sum().item()), echo=lines.append
    )
    assert found == good
    assert architecture.argmax() != good and architecture.mask.all()
    assert tuned == [11, 10, 9, 8, 7]  # between edges, with what has been decided
    assert sorted(line.split(":")[0] for line in lines) == sorted(EDGES)
    assert [line.split(":")[0] for line in lines] != list(EDGES)
