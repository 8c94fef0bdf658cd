"""Effects of operations: additive worlds give them back, and all intervals hold together."""

from itertools import islice

import numpy
import pytest

from sase_attn.genotype import EDGES
from sase_attn.search import SearchSpace
from sase_attn.search.balanced import balanced_blocks
from sase_attn.search.signal.effects import Effect, effects
from sase_attn.search.signal.words import clear_effects

RELEASE = SearchSpace.get("release")
GENOTYPES = [genotype for block in islice(balanced_blocks(RELEASE), 40) for genotype in block]
COLUMNS = numpy.array([RELEASE.columns(genotype) for genotype in GENOTYPES])


def true_effects(generator):
    table = generator.standard_normal((len(EDGES), 7))
    return table - table.mean(1, keepdims=True)


def values_of(table, generator, *, std, rows):
    of_genotypes = table[numpy.arange(len(EDGES)), COLUMNS[rows]].sum(1)
    return of_genotypes[:, None] + std * generator.standard_normal((len(rows), 4)) + generator.standard_normal(4)


def test_without_noise_many_genotypes_give_the_effects():
    generator = numpy.random.default_rng(0)
    table = true_effects(generator)
    rows = list(range(280))
    values = values_of(table, generator, std=0, rows=rows)
    found = effects(dict(zip(GENOTYPES, values.tolist(), strict=True)), RELEASE)
    assert [(it.edge, it.operation) for it in found] == [(edge, op) for edge in EDGES for op in RELEASE.ops[edge]]
    assert {it.genotypes for it in found} == {40}
    errors = numpy.array([it.mean for it in found]).reshape(6, 7) - table
    assert abs(errors).max() < 4 * (5 / 40) ** 0.5  # what the other five edges add to a mean of 40
    for it, true in zip(found, table.reshape(-1), strict=True):
        assert it.low < true < it.high
        assert it.verdict == ("better" if it.low > 0 else "worse" if it.high < 0 else "inconclusive")
    assert {"better", "worse"} <= {it.verdict for it in found}


@pytest.mark.parametrize("scale, std", [(0.3, 0.5), (0, 1.0)], ids=["additive", "noise"])
def test_intervals_hold_together(scale, std):
    generator, missed, worlds = numpy.random.default_rng(1), 0, 300
    for world in range(worlds):
        table = scale * true_effects(generator)
        first = world % 12 * 21
        rows = list(range(first, first + 21))
        values = values_of(table, generator, std=std, rows=rows)
        found = effects({GENOTYPES[row]: value for row, value in zip(rows, values.tolist(), strict=True)}, RELEASE)
        missed += any(not it.low <= true <= it.high for it, true in zip(found, table.reshape(-1), strict=True))
    assert missed / worlds <= 0.05 + 3 * (0.05 * 0.95 / worlds) ** 0.5


def test_one_block_gives_means_and_no_intervals():
    values = {genotype: [float(index), float(index)] for index, genotype in enumerate(GENOTYPES[:7])}
    found = effects(values, RELEASE)
    assert len(found) == 42 and all(it.low is it.high is None and it.verdict == "inconclusive" for it in found)
    assert sum(it.mean for it in found) == pytest.approx(0) and max(it.mean for it in found) == 3


def test_edges_with_one_operation_have_no_effect():
    one = GENOTYPES[0]
    space = SearchSpace({edge: (getattr(one, edge),) for edge in EDGES} | {"channel_gate": ("affine", "fc")})
    values = {genotype: [value, value + 1] for genotype, value in zip(space, (1.0, 3.0), strict=True)}
    assert [(it.edge, it.mean) for it in effects(values, space)] == [("channel_gate", -1), ("channel_gate", 1)]
    assert effects({one: [1.0, 2.0]}, space) == []


def test_the_effect_that_would_be_told_holds_on_every_edge():
    found = [Effect(edge, "op", 2, 0.0, -width, width) for edge, width in (("channel_gate", 0.5), ("mix", 2.0))]
    assert clear_effects(found, "top1") == ["  none of 2 can be told; an effect of ±2.00 or more would be"]
