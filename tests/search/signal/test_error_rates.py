"""What the answers promise, by simulation: false answers ≤ 5 %, coverage ≥ 90 %, over all looks, whatever the ICC.

A plan that is asked training by training agrees with a second implementation, which then judges thousands of worlds.
"""

import re

import numpy
import pytest
from checkout import ROOT
from signal_worlds import draw, judge

from sase_attn.search import SearchSpace
from sase_attn.search.signal import SignalPlan
from sase_attn.search.signal.answers import NOTHING, SIGNAL, UNDECIDED, answer, size_that_decides
from sase_attn.search.signal.plan import measured
from sase_attn.search.signal.variation import variation
from sase_attn.search.trained import Trained

RELEASE = SearchSpace.get("release")
WORLDS = 4000
MARGIN = 3 * (0.05 * 0.95 / WORLDS) ** 0.5
ANSWERS = {1: SIGNAL, -1: NOTHING, 0: UNDECIDED}


@pytest.mark.parametrize("measure", ["top1", "loss"])
def test_a_plan_answers_as_the_second_implementation(measure):
    plan = SignalPlan(RELEASE, measure=measure)
    place = {genotype: index for index, genotype in enumerate(plan.genotypes)}
    found = set()
    for icc in (0, 0.3, 0.8):
        worlds = draw(icc, 12, 21, 4)
        for values, end, said, limits in zip(worlds, *judge(worlds, 0.2, step=7, looks=3), strict=True):
            done = []
            while wanted := plan.wanted(done):
                ends = [float(values[place[training.genotype], training.seed]) for training in wanted]
                done += [
                    Trained(training, value, 1.0 + training.seed)
                    if measure == "top1"
                    else Trained(training, 50.0, -value)
                    for training, value in zip(wanted, ends, strict=True)
                ]
            seen = variation(measured(plan.rows(done, plan.look(done)), measure), error=plan.error)
            assert len(done) == 28 * end and plan.look(done) == end and answer(seen, 0.2) == ANSWERS[said]
            assert (seen.low, seen.high) == pytest.approx(tuple(limits))
            found.add(answer(seen, 0.2))
    assert found == {SIGNAL, NOTHING, UNDECIDED}


@pytest.mark.parametrize("icc", [0, 0.1, 0.2, 0.3, 0.5])
@pytest.mark.parametrize("threshold, looks, seeds", [(0.2, 3, 4), (0.1, 4, 8), (0.3, 1, 4)])
def test_false_answers_and_coverage(icc, threshold, looks, seeds):
    _, answers, limits = judge(draw(icc, WORLDS, 7 * looks, seeds), threshold, step=7, looks=looks)
    if icc <= threshold:
        assert (answers == 1).mean() <= 0.05 + MARGIN
    if icc >= threshold:
        assert (answers == -1).mean() <= 0.05 + MARGIN
    covered = (limits[:, 0] <= icc) & (icc <= limits[:, 1])
    assert covered.mean() >= 0.9 - 1.5 * MARGIN


@pytest.mark.parametrize("residual", ["heavy tails", "skewed"])
@pytest.mark.parametrize("icc", [0, 0.2, 0.5])
def test_trainings_that_are_not_normal(icc, residual):
    """At the threshold itself heavy tails make some more false signals; where there is nothing, none."""
    _, answers, limits = judge(draw(icc, WORLDS, 21, 4, residual=residual), 0.2, step=7, looks=3)
    assert (answers == 1).mean() <= {0: 0.01, 0.2: 0.08}.get(icc, 1)
    assert (answers == -1).mean() <= {0: 1}.get(icc, 0.05 + MARGIN)
    assert ((limits[:, 0] <= icc) & (icc <= limits[:, 1])).mean() >= 0.88


@pytest.mark.parametrize("icc", [0.1, 0.2, 0.5])
@pytest.mark.parametrize("share", [0.7, 1])
def test_balanced_genotypes_of_an_additive_world(icc, share):
    """Operations add up to this share, and the genotypes are those of blocks, which are not drawn independently."""
    generator, plan = numpy.random.default_rng(0), SignalPlan(RELEASE, budget=28 * 60)
    columns = numpy.array([RELEASE.columns(genotype) for genotype in plan.genotypes])
    effects = generator.standard_normal((WORLDS, 6, 7))
    effects -= effects.mean(2, keepdims=True)
    effects /= (effects**2).mean(2).sum(1)[:, None, None] ** 0.5
    blocks = 7 * generator.integers(0, 58, WORLDS)[:, None] + numpy.arange(21)
    additive = effects[numpy.arange(WORLDS)[:, None, None], numpy.arange(6), columns[blocks]].sum(2)
    rest = generator.standard_normal((WORLDS, 21))
    genotypes = (icc / (1 - icc)) ** 0.5 * (share**0.5 * additive + (1 - share) ** 0.5 * rest)
    values = genotypes[:, :, None] + generator.standard_normal((WORLDS, 21, 4))
    _, answers, limits = judge(values, 0.2, step=7, looks=3)
    assert (answers == 1).mean() <= (0.05 + MARGIN if icc <= 0.2 else 1)
    assert (answers == -1).mean() <= (0.05 + MARGIN if icc >= 0.2 else 1)
    assert ((limits[:, 0] <= icc) & (icc <= limits[:, 1])).mean() >= 0.9 - 1.5 * MARGIN


def test_looking_often_without_correction_would_err():
    """The check itself: six looks at 5 % each make more false answers than promised."""
    values = draw(0.2, WORLDS, 42, 4)
    uncorrected = [judge(values[:, : 7 * look], 0.2, step=7 * look, looks=1)[1] for look in range(1, 7)]
    assert (numpy.array(uncorrected) == 1).any(0).mean() > 0.08
    assert (judge(values, 0.2, step=7, looks=6)[1] == 1).mean() <= 0.05 + MARGIN


@pytest.mark.parametrize("icc", [0.0, 0.6])
def test_the_size_that_decides_does(icc):
    size = size_that_decides(icc, 0.2, step=7, seeds=4, space_size=7**6)
    assert size is not None and size.genotypes % 7 == 0 and 4 <= size.seeds <= 16
    _, answers, _ = judge(draw(icc, WORLDS, size.genotypes, size.seeds), 0.2, step=7, looks=size.genotypes // 7)
    assert 0.78 < (answers == (1 if icc else -1)).mean() < 0.95
    assert size_that_decides(0.2, 0.2, step=7, seeds=4, space_size=7**6) is None


def test_no_more_genotypes_are_advised_than_there_are():
    sizes = {count: size_that_decides(0.6, 0.2, step=min(7, count), seeds=4, space_size=count) for count in (4, 10, 30)}
    assert sizes[4] is None and sizes[30] == size_that_decides(0.6, 0.2, step=7, seeds=4, space_size=7**6)
    assert sizes[10] is None or sizes[10].genotypes <= 10
    ten = size_that_decides(0.8, 0.2, step=7, seeds=4, space_size=10)
    assert ten is not None and ten.genotypes <= 10


def test_the_table_of_the_page():
    """What a budget can answer, as docs/search.md says."""
    page = (ROOT / "docs" / "search.md").read_text(encoding="utf-8")
    lines = re.findall(r"^\| (\d+), (\d) seeds \| (.*) \|$", page, flags=re.MULTILINE)
    assert len(lines) == 3
    for budget, seeds, cells in lines:
        count, looks = int(seeds), int(budget) // int(seeds) // 7
        for icc, cell in zip((0, 0.1, 0.2, 0.3, 0.5, 0.7), cells.split(" | "), strict=True):
            nothing, found, trainings = map(int, re.findall(r"\d+", cell))
            ends, answers, _ = judge(draw(icc, 1000, 7 * looks, count), 0.2, step=7, looks=looks)
            assert 100 * (answers == -1).mean() == pytest.approx(nothing, abs=5)
            assert 100 * (answers == 1).mean() == pytest.approx(found, abs=5)
            assert 7 * count * ends.mean() == pytest.approx(trainings, abs=4)
