"""What a search can gain: known maxima of normal numbers, and simulations in plain loops."""

import random
from statistics import mean

import pytest

from sase_attn.search.signal.advice import worthwhile_trainings
from sase_attn.search.signal.gains import Gain, best_of, expected_maximum, gains, race
from sase_attn.search.signal.variation import variation


def test_maxima_are_those_of_the_tables():
    """Order statistics as tabulated (Harter 1961), and the limit law for the whole space."""
    for count, known in ((1, 0), (2, 0.56419), (5, 1.16296), (10, 1.53875), (100, 2.50759), (1000, 3.24144)):
        assert expected_maximum(count) == pytest.approx(known, abs=2e-5)
    assert 4.3 < expected_maximum(7**6) < 4.5


def by_loops(genotype_std, residual_std, rungs):
    """The mean true value of what is best after rungs of (genotypes, seeds)."""
    draw, found = random.Random(0), []
    for _ in range(2000):
        truth = [draw.gauss(0, genotype_std) for _ in range(rungs[0][0])]
        seen = [[] for _ in truth]
        kept = list(range(len(truth)))
        for size, seeds in rungs:
            kept = sorted(kept, key=lambda place: -mean(seen[place]) if seen[place] else 0)[:size]
            for place in kept:
                seen[place] += [truth[place] + draw.gauss(0, residual_std) for _ in range(seeds)]
        found.append(truth[max(kept, key=lambda place: mean(seen[place]))])
    return mean(found)


@pytest.mark.parametrize("stds", [(0.4, 0.6), (0.2, 0.6)])
def test_what_methods_gain_is_what_loops_give(stds):
    assert best_of(*stds, 20) == pytest.approx(by_loops(*stds, [(20, 1)]), abs=0.04)
    assert race(*stds, 42) == pytest.approx(by_loops(*stds, [(21, 1), (7, 3)]), abs=0.05)
    assert race(*stds, 84) == pytest.approx(by_loops(*stds, [(28, 1), (9, 3), (3, 9)]), abs=0.05)


def test_no_difference_and_no_noise():
    assert best_of(0, 0, 10) == best_of(0, 1, 10) == race(0, 1, 10) == race(0, 0, 10) == 0
    assert best_of(1, 0, 10) == pytest.approx(expected_maximum(10))
    assert race(1, 0, 20) == pytest.approx(expected_maximum(10), abs=0.08)
    assert race(1, 1, 1) == pytest.approx(0, abs=1e-9) and race(1, 1, 5) > 0
    ladder = gains(variation([[60.0, 61.0], [62.0, 62.5], [63.0, 64.5], [60.0, 61.5]]))
    assert all(it.low <= it.race <= it.high for it in ladder)
    assert [it.race for it in ladder] == sorted(it.race for it in ladder)


def test_trainings_are_worth_what_they_add():
    def ladder(*values):
        return [Gain(10 * 2**place, 0, value, 0, 0) for place, value in enumerate(values)]

    assert worthwhile_trainings(ladder(0.09, 0.5)) == 0
    assert worthwhile_trainings(ladder(0.3, 0.4, 0.45, 0.7)) == 20
    assert worthwhile_trainings(ladder(0.3, 0.5)) == 20
