"""Replays: worlds whose truth is known and stays the same, searchers of a user, and a table that fits its worlds."""

import inspect
import json
import textwrap
from statistics import correlation, mean, pvariance, stdev

import pytest

from sase_attn.errors import UnknownNameError
from sase_attn.genotype import EDGES, Genotype
from sase_attn.search import SearchSpace
from sase_attn.search.balanced import balanced_blocks
from sase_attn.search.replay import SpaceTable, World, replay, world_at
from sase_attn.search.replay.table import PATH, TableRow, tables_json
from sase_attn.search.trained import Training

RELEASE = SearchSpace.get("release")


def made_up(world, steps=960, count=28, seeds=5):
    """A table of trainings of a world."""
    blocks = balanced_blocks(RELEASE)
    genotypes = [genotype for _ in range(count // 7) for genotype in next(blocks)]
    found = [world.train(Training(genotype, seed)) for seed in range(seeds) for genotype in genotypes]
    rows = tuple(TableRow(str(row.training.genotype), row.training.seed, row.top1, row.loss) for row in found)
    return SpaceTable(steps, rows, (TableRow("plain", 0, 50.0, 1.4),))


def test_a_world_is_the_same_whoever_asks():
    worlds = [world_at(RELEASE, 0.3, key=key) for key in (4, 4, 5)]
    training = Training(RELEASE.random(0), 7)
    first, same, other = (world.train(training) for world in worlds)
    assert first == same != other
    assert worlds[0].value(RELEASE.random(0)) == worlds[1].value(RELEASE.random(0))
    assert worlds[0].train(Training(RELEASE.random(0), 8)) != first


@pytest.mark.parametrize("icc", [0.0, 0.1, 0.6])
def test_worlds_have_the_variances_that_were_asked_for(icc):
    between, residual = [], []
    for key in range(60):
        world = world_at(RELEASE, icc, key=key)
        genotypes = [RELEASE.random(seed) for seed in range(30)]
        values = [world.value(genotype) for genotype in genotypes]
        assert abs(mean(values)) < 1
        between.append(pvariance(values) * 30 / 29)
        left = [world.train(Training(g, 0)).top1 - world.train(Training(g, 1)).top1 for g in genotypes]
        residual.append(pvariance(left) * 30 / 29 / 2)
    assert mean(residual) == pytest.approx(0.61**2, rel=0.1)
    assert mean(between) / (mean(between) + mean(residual)) == pytest.approx(icc, abs=0.06)


def test_values_are_above_the_mean_of_all_genotypes():
    small = SearchSpace({edge: ops[: 2 + (edge == "channel_gate")] for edge, ops in RELEASE.ops.items()})
    world = World(small, [[3.0, 1.0, 2.0][: len(ops)] for ops in small.ops.values()], 0.0, 0.5)
    assert mean(map(world.value, small)) == pytest.approx(0)
    assert max(map(world.value, small)) == pytest.approx(6)


def test_a_choice_is_scored_by_the_truth():
    for name in ("random", "race"):
        world = world_at(RELEASE, 0.3, key=1)
        found = replay(name, world, 20, seed=1, overhead=2.5)
        assert found.gain == world.value(found.genotype) and (found.trainings, found.cost) == (20, 22.5)
        assert found == replay(name, world, 20, seed=1, overhead=2.5)
    assert replay("race", world_at(RELEASE, 0.0), 10).gain == 0


def test_the_searcher_of_the_documentation():
    text = inspect.getdoc(replay)
    code = textwrap.dedent(text[text.index("    from sase_attn") : text.index("Args:")])
    names = {}
    *lines, last = code.strip().splitlines()
    exec("\n".join(lines), names)
    assert isinstance(eval(last, names), float)


class Greedy:
    """Wants what it is told to."""

    def __init__(self, plan):
        self.plan = plan

    def __call__(self, space, trainings, seed):
        return self

    def wanted(self, done):
        return self.plan[len(done) :]

    def choose(self, done):
        return done[0].training.genotype


def test_what_is_refused():
    world, training = world_at(RELEASE, 0.3), Training(RELEASE.random(0), 0)
    with pytest.raises(UnknownNameError, match="unknown method 'rase'; did you mean race?"):
        replay("rase", world, 10)
    with pytest.raises(ValueError, match="wanted at most 1 trainings of the searcher, got 2"):
        replay(Greedy([training, Training(RELEASE.random(1), 0)]), world, 1)
    with pytest.raises(ValueError, match="wanted a training or more"):
        replay(Greedy([]), world, 1)
    twice = Greedy([training])
    twice.wanted = lambda done: [training]
    with pytest.raises(ValueError, match="got one that has ended"):
        replay(twice, world, 5)
    with pytest.raises(ValueError, match="icc: wanted a number from 0 to below 1, got 1"):
        world_at(RELEASE, 1)
    with pytest.raises(ValueError, match="share: wanted a number from 0 to 1, got 2"):
        world_at(RELEASE, 0.3, share=2)
    with pytest.raises(ValueError, match="residual_std: wanted a number of at least 0, got -1"):
        world_at(RELEASE, 0.3, residual_std=-1)
    with pytest.raises(ValueError, match="trainings: wanted a whole number, got 2.5"):
        replay("race", world, 2.5)


def test_a_table_is_read_as_it_was_written(tmp_path):
    tables = [made_up(world_at(RELEASE, 0.3), steps, 7, 2) for steps in (240, 960)]
    path = tmp_path / "table.json"
    path.write_text(tables_json(tables))
    assert SpaceTable.load(240, path) == tables[0] and SpaceTable.load(path=path) == tables[1]
    assert tables[0].trained[0].training.genotype == Genotype.parse(tables[0].genotypes[0].network)
    with pytest.raises(ValueError, match="table.json: wanted trainings of 240 or 960 steps, got 100"):
        SpaceTable.load(100, path)
    path.write_text(json.dumps({"240": {"steps": 240}}))
    with pytest.raises(ValueError, match="table.json"):
        SpaceTable.load(240, path)
    path.write_text("{}")
    with pytest.raises(ValueError, match="table.json: wanted a table for each length"):
        SpaceTable.load(240, path)
    with pytest.raises(FileNotFoundError):
        SpaceTable.load(240, tmp_path / "none.json")


def test_worlds_of_a_table_are_those_that_it_allows():
    truth = world_at(RELEASE, 0.6, key=5)
    table = made_up(truth)
    worlds = [table.world(key) for key in range(12)]
    assert worlds[0] == table.world(0) != worlds[1]
    genotypes = list(dict.fromkeys(row.training.genotype for row in table.trained))
    drawn = [mean(world.value(genotype) for world in worlds) for genotype in genotypes]
    assert correlation(drawn, [truth.value(genotype) for genotype in genotypes]) > 0.9
    spread = [stdev(world.value(genotype) for world in worlds) for genotype in (genotypes[0], RELEASE.random(0))]
    assert 0.1 < spread[0] < spread[1] < 1  # less is known of one that was not trained
    assert mean(world.residual_std for world in worlds) == pytest.approx(0.61, rel=0.15)
    new = worlds[0].train(table.trained[0].training)  # not the row that has fitted the world
    assert new.top1 != table.trained[0].top1
    nothing = made_up(world_at(RELEASE, 0.0, key=3))
    assert nothing.model.icc < 0.15 < 0.4 < table.model.icc
    assert len(EDGES) == len(worlds[0].effects)
    assert replay("race", worlds[0], 20).trainings == 20


@pytest.mark.skipif(not PATH.exists(), reason="no table is shipped")
def test_the_table_that_is_shipped():
    table = SpaceTable.load()
    assert len({row.network for row in table.genotypes}) >= 7 and any(row.network == "plain" for row in table.controls)
    assert replay("random", table.world(0), 10).trainings == 10
