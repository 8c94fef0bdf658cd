"""Balanced blocks: every operation of an edge equally often, the same blocks for the same seed, no genotype twice."""

from collections import Counter
from dataclasses import replace
from itertools import chain, islice

import pytest

from sase_attn.genotype import EDGES
from sase_attn.search import SearchSpace
from sase_attn.search.balanced import balanced_blocks, block_size

RELEASE = SearchSpace.get("release")
UNEVEN = RELEASE.without("channel_squeeze:l2norm", "spatial_excite:affine")


@pytest.mark.parametrize("space", [RELEASE, UNEVEN], ids=["even", "uneven"])
def test_operations_occur_equally_often_in_each_block(space):
    for block in islice(balanced_blocks(space), 5):
        assert len(block) == block_size(space) == 7
        for edge in EDGES:
            found = Counter(getattr(genotype, edge) for genotype in block)
            assert found.keys() == set(space.ops[edge]) and max(found.values()) - min(found.values()) <= 1


def test_first_blocks_are_those_of_the_seed():
    def take(count, seed):
        return list(islice(balanced_blocks(RELEASE, seed=seed), count))

    assert take(2, 0) == take(5, 0)[:2] and take(2, 0) != take(2, 1)


def test_no_genotype_occurs_twice_until_none_is_left():
    many = list(chain(*islice(balanced_blocks(RELEASE), 60)))
    assert len(set(many)) == len(many) == 420
    one = next(iter(RELEASE))
    two = {"channel_squeeze": ("gap", "gap_gmp")} | {edge: (getattr(one, edge),) for edge in list(EDGES)[1:]}
    few = SearchSpace(two)
    first = next(balanced_blocks(few))
    assert set(first) == set(few) and [set(block) for block in islice(balanced_blocks(few), 3)] == [set(few)] * 3
    assert replace(one, channel_squeeze="gap_gmp") in few
