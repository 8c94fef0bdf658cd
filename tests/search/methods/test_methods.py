"""Methods without a super-network: each is a pure function of the rows, uses its budget, and finds what is there."""

import importlib.util
import random
from statistics import mean

import pytest

from sase_attn.genotype import Genotype
from sase_attn.search import SearchSpace
from sase_attn.search.methods import METHODS, Race
from sase_attn.search.replay import world_at
from sase_attn.search.signal import SignalPlan
from sase_attn.search.trained import Trained, Training

RELEASE = SearchSpace.get("release")
ONE = next(iter(RELEASE))
SPACES = {
    "release": RELEASE,
    "uneven": RELEASE.without("channel_squeeze:l2norm", "spatial_excite:affine", "conv1d_k3"),
    "two": SearchSpace({edge: ops[:2] if edge == "channel_gate" else ops[:1] for edge, ops in RELEASE.ops.items()}),
    "one": SearchSpace({edge: ops[:1] for edge, ops in RELEASE.ops.items()}),
}
every_method = pytest.mark.parametrize("name", METHODS)


def run(method, train, done=(), order=None):
    """Rows until nothing is wanted; one training at a time in an order of its own, or all that are wanted at once."""
    done = list(done)
    while wanted := method.wanted(done):
        assert len(set(wanted)) == len(wanted) and not {row.training for row in done}.intersection(wanted)
        done += map(train, wanted if order is None else [order.choice(wanted)])
        if order is not None:
            order.shuffle(done)
    return done


@every_method
@pytest.mark.parametrize("space", SPACES)
def test_the_budget_is_used_whatever_the_space(name, space):
    world = world_at(SPACES[space], 0.3)
    for trainings in (1, 2, 7, 11):
        method = METHODS[name](SPACES[space], trainings, seed=2)
        done = run(method, world.train)
        assert len(done) == trainings
        assert method.choose(done) in {row.training.genotype for row in done}


@every_method
def test_neither_workers_nor_restarts_nor_order_change_a_search(name):
    world, method = world_at(RELEASE, 0.3, key=1), METHODS[name](RELEASE, 40)
    together = run(method, world.train)
    alone = run(METHODS[name](RELEASE, 40), world.train, order=random.Random(0))
    assert {*together} == {*alone}
    assert method.choose(together) == METHODS[name](RELEASE, 40).choose(alone)
    half = together[:23]  # what a killed search has left
    assert {*run(METHODS[name](RELEASE, 40), world.train, half)} == {*together}


@every_method
def test_other_seeds_search_elsewhere(name):
    first, second = (METHODS[name](RELEASE, 8, seed=seed).wanted([]) for seed in (0, 1))
    assert not {t.genotype for t in first} & {t.genotype for t in second}
    assert {t.seed for t in first} == {0} and {t.seed for t in second} == {1}


@every_method
def test_rows_of_a_look_for_signal_count_and_are_used(name):
    world = world_at(RELEASE, 0.6)
    look = [world.train(training) for training in SignalPlan(RELEASE, budget=28).wanted([])]
    method = METHODS[name](RELEASE, 50)
    done = run(method, world.train, look)
    assert len(done) == 50
    if name != "random":  # whose first genotypes are not balanced
        again = {row.training.genotype for row in look} & {row.training.genotype for row in done[28:]}
        assert len(again) < 7  # only those that are worth it
    best = look[0].training.genotype
    known = [Trained(row.training, 90.0 if row.training.genotype == best else row.top1, row.loss) for row in look]
    assert METHODS[name](RELEASE, 28).choose(known) == best and METHODS[name](RELEASE, 28).wanted(known) == []


@every_method
def test_failed_trainings_are_used_up_and_not_chosen(name):
    world = world_at(RELEASE, 0.6)

    def train(training):
        row = world.train(training)
        fails = training.genotype.channel_squeeze in ("gap", "gsop") or training.seed > 100
        return Trained.failure(training) if fails else row

    method = METHODS[name](RELEASE, 30)
    done = run(method, train)
    assert len(done) == 30 and method.choose(done).channel_squeeze not in ("gap", "gsop")

    broken = run(method, Trained.failure)
    assert broken
    with pytest.raises(ValueError, match="wanted a training that did not fail, got"):
        method.choose(broken)


@every_method
def test_seeds_are_taken_out(name):
    """A genotype is not better for having been trained with a better seed."""
    good, bad, other = (RELEASE.random(seed) for seed in range(3))
    rows = [(good, 0, 50.0), (bad, 0, 48.0), (good, 1, 70.0), (bad, 1, 68.2), (bad, 2, 90.0), (other, 2, 92.5)]
    found = [Trained(Training(genotype, seed), top1, 1.0) for genotype, seed, top1 in rows]
    assert METHODS[name](RELEASE, 6).choose(found) in (good, other)


@every_method
def test_what_is_found_is_better_than_a_random_genotype(name):
    """Genotypes deviate by 0.75 points in these worlds."""
    gains = []
    for key in range(4):
        world = world_at(RELEASE, 0.6, key=key)
        method = METHODS[name](RELEASE, 30, seed=key)
        gains.append(world.value(method.choose(run(method, world.train))))
    assert mean(gains) > 0.6


def test_rungs_cost_alike():
    race = Race(RELEASE, 84)
    assert [race.rungs(budget) for budget in (1, 7, 10, 20, 42, 84)] == [[1], [7], [5, 2], [10, 3], [21, 7], [28, 9, 3]]
    done = run(race, world_at(RELEASE, 0.3).train)
    seeds = [row.training.seed for row in done]
    assert seeds.count(0) == 28 and [seeds.count(seed) for seed in range(100, 103)] == [9, 9, 9]
    assert [seeds.count(seed) for seed in (103, 111, 112, 113)] == [3, 3, 2, 0]


def test_what_is_refused(monkeypatch):
    with pytest.raises(ValueError, match="trainings: wanted at least 1, got 0"):
        METHODS["race"](RELEASE, 0)
    with pytest.raises(ValueError):
        METHODS["race"](RELEASE, 3).wanted([Trained(Training(Genotype.parse("sase_paper"), 0), 1.0, 1.0)])
    monkeypatch.setattr("sase_attn.search.methods.tpe.find_spec", lambda name: None)
    assert importlib.util.find_spec("optuna")
    with pytest.raises(ImportError, match=r"pip install \"sase-attn\[search\]\""):
        METHODS["tpe"](RELEASE, 3)
