"""Which trainings a plan wants: block by block, in whatever order they end; what failed is not wanted again."""

import random

import pytest

from sase_attn.errors import UnknownNameError
from sase_attn.genotype import EDGES, Genotype
from sase_attn.search import SearchSpace
from sase_attn.search.signal import SignalPlan, signal
from sase_attn.search.trained import Trained, Training

RELEASE = SearchSpace.get("release")


def small(*edges):
    """A space of two operations on these edges and one on the others."""
    one = next(iter(RELEASE))
    return SearchSpace(
        {edge: RELEASE.ops[edge][: 1 + (edge in edges)] if edge in edges else (getattr(one, edge),) for edge in EDGES}
    )


def end(training, value=None):
    """A training with a value drawn by what it is, so that two fifths of the variance are the genotype's."""
    own, noise = (random.Random(f"{it}").gauss(0, 1) for it in (training.genotype, training))
    value = 60 + training.seed + 0.8 * own + noise if value is None else value
    return Trained(training, value, 2 - value / 100)


def failed(training):
    return Trained(training, 0.0, float("inf"))


def test_looks_grow_by_seven_genotypes_with_the_same_seeds():
    plan, done = SignalPlan(RELEASE, budget=90, threshold=0.3), []
    assert (plan.step, plan.looks) == (7, 3)
    genotypes = plan.genotypes
    assert len(set(genotypes)) == 21
    for look in (1, 2, 3):
        wanted = plan.wanted(done)
        fresh = genotypes[7 * (look - 1) : 7 * look]
        assert wanted == [Training(genotype, seed) for seed in range(4) for genotype in fresh]
        for index, training in enumerate(wanted):
            assert plan.wanted(done) == wanted[index:] and plan.look(done) == look - 1
            done.append(end(training))
    assert plan.wanted(done) == [] and plan.look(done) == 3
    random.Random(0).shuffle(done)
    assert plan.wanted(done) == [] and plan.wanted(done[5:]) != []


def test_an_answer_ends_it_and_what_came_later_does_not_count():
    plan = SignalPlan(RELEASE, budget=84)
    quality = {genotype: 5.0 * index for index, genotype in enumerate(plan.genotypes)}
    rows = [
        end(training, 10 + quality[training.genotype] + random.Random(str(training)).random())
        for training in (Training(genotype, seed) for genotype in plan.genotypes for seed in range(4))
    ]
    assert plan.wanted(rows[:28]) == [] and plan.look(rows) == 1
    assert signal(rows, plan) == signal(rows[:28], plan) and signal(rows, plan).answer == "signal"
    others = [Trained(Training(RELEASE.random(0), 0), 1.0, 1.0), Trained(Training(plan.genotypes[0], 9), 1.0, 1.0)]
    assert signal([*others, *rows[:28]], plan) == signal(rows[:28], plan)


def test_a_failed_training_is_not_wanted_again_and_its_genotype_is_left_out():
    plan = SignalPlan(RELEASE, budget=28)
    trainings = plan.wanted([])
    done = [failed(trainings[3]) if index == 3 else end(training) for index, training in enumerate(trainings)]
    assert plan.wanted(done) == []
    found = signal(done, plan)
    assert found.left_out == [trainings[3].genotype] and found.top1.variation.genotypes == 6
    assert len(found.trained) == 24 and any("left out: 1 genotype with" in line for line in found.lines())
    none = [failed(training) for training in trainings]
    assert plan.wanted(none) == []
    with pytest.raises(ValueError, match="wanted 2 genotypes or more whose trainings all ended, got 0"):
        signal(none, plan)


def test_all_equal_ends_it():
    plan = SignalPlan(RELEASE, budget=84)
    done = [end(training, 10.0 + training.seed) for training in plan.wanted([])]
    assert plan.wanted(done) == []
    found = signal(done, plan)
    assert found.answer == "not decided" and "all trainings ended at the same top-1" in found.lines()[-1]
    assert "within their seed" in found.lines()[-1] and "train for longer" in found.lines()[-1]


def test_small_spaces_are_asked_whole():
    two = small("channel_gate")
    plan = SignalPlan(two, budget=100)
    assert (plan.step, plan.looks) == (2, 1) and set(plan.genotypes) == set(two)
    many = small(*EDGES)
    plan = SignalPlan(many, budget=10_000)
    assert (plan.step, plan.looks, many.size) == (8, 8, 64) and set(plan.genotypes) == set(many)
    done = [end(training, 50.0 + training.seed + hash(training.genotype) % 7) for training in plan.wanted([])]
    assert isinstance(signal(done, plan).left_out, list)
    with pytest.raises(ValueError, match="space: wanted 2 genotypes or more, got 1"):
        SignalPlan(small())


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"budget": 27}, "budget: wanted 28 or more .7 genotypes with 4 seeds., got 27"),
        ({"threshold": 0}, "threshold: wanted a number between 0 and 1, got 0"),
        ({"threshold": float("nan")}, "threshold: wanted a number between 0 and 1, got nan"),
        ({"seeds": (0,)}, "seeds: wanted 2 or more, each once, got 0"),
        ({"seeds": (0, 0)}, "seeds: wanted 2 or more, each once, got 0, 0"),
    ],
)
def test_wrong_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        SignalPlan(RELEASE, **settings)


def test_measures_have_names():
    with pytest.raises(UnknownNameError, match="top1"):
        SignalPlan(RELEASE, measure="top-1")


def test_trainings_that_are_missing():
    plan = SignalPlan(RELEASE)
    with pytest.raises(ValueError, match="wanted the 28 trainings of the first look, got 3 of them"):
        signal([end(training) for training in plan.wanted([])[:3]], plan)
    assert isinstance(plan.genotypes[0], Genotype)
