"""`MapReader` as people may use it: what stands for a map, in which order, and what it says where it cannot."""

import pytest
import torch
from inputs import draw, randomise
from tolerances import assert_close
from torch import nn

from sase_attn import SASEBlock, kernels, statistics
from sase_attn.kernels import dispatch, reader
from sase_attn.kernels.reader import CHANNELS, POSITIONS, MapReader, statistics_of
from sase_attn.ops import Op

DOUBLE = torch.float64


def by_kernels(x, **sets):
    return MapReader(x, dispatch.operators_for(x), **sets)


@pytest.mark.parametrize("fast", [True, False], ids=["kernels", "definition"])
def test_a_formula_takes_a_reader_in_the_place_of_the_map(fast):
    x, gate = draw(2, 5, 4, 3, dtype=DOUBLE), draw(2, 5, 1, 1, seed=1, dtype=DOUBLE)

    def formula(x):
        (z,) = statistics_of(x, ["mean"], POSITIONS)
        gated = x * gate
        (norm,) = statistics_of(gated, ["l4"], CHANNELS)
        return reader.gated(x, z, norm + statistics_of(x, ["std"], CHANNELS)[0])

    operators = dispatch.operators_for(x) if fast else None
    stand_in = MapReader(x, operators, positions=["mean"], channels=["std"], weighted=["l4"])
    assert_close(formula(stand_in), formula(x))


def test_what_was_not_announced_is_computed_by_the_definition():
    x = draw(2, 5, 4, 3, dtype=DOUBLE)
    read = by_kernels(x, positions=["mean"])
    for names, dims in ((["l4", "mean"], POSITIONS), (["maximum"], CHANNELS), (["mean"], [1, 2])):
        for found, expected in zip(read.statistics(names, dims), statistics.compute(x, names, dims), strict=True):
            assert_close(found, expected)
    assert torch.equal(reader.whole(read), x)


def test_each_product_has_its_own_statistics():
    """Only those of the first are read with the map's."""
    x = draw(2, 5, 4, 3, dtype=DOUBLE)
    first, second = (draw(2, 5, 1, 1, seed=seed, dtype=DOUBLE) for seed in (1, 2))
    read = by_kernels(x, channels=["mean"], weighted=["l4"])
    products = read * first, read * second
    for product, weight in zip(products, (first, second), strict=True):
        assert_close(product.statistics(["l4"], CHANNELS)[0], statistics.l4(x * weight, [1]))
        assert_close(product.statistics(["mean"], CHANNELS)[0], statistics.mean(x * weight, [1]))
        assert_close(reader.whole(product), x * weight)


def test_the_weight_comes_before_statistics_over_the_channels():
    read = by_kernels(draw(2, 5, 4, 3), channels=["mean"], weighted=["l4"])
    with pytest.raises(RuntimeError, match="multiply the map by its weight before"):
        read.statistics(["mean"], CHANNELS)


def test_the_map_behind_a_folded_norm_is_not_there():
    norm = randomise(nn.BatchNorm2d(5, dtype=DOUBLE))
    read = by_kernels(draw(2, 5, 4, 3, dtype=DOUBLE), positions=["mean"], norm=norm)
    with pytest.raises(RuntimeError, match="not in memory"):
        reader.whole(read)


def test_a_squeeze_that_knows_no_readers_gets_the_map():
    """And with it the whole block; a hook, too."""
    seen = []

    class Own(Op):
        def forward(self, x):
            seen.append(type(x))
            return x.mean((2, 3), keepdim=True)

    block, x = SASEBlock(5, dtype=DOUBLE).eval(), draw(2, 5, 4, 3, dtype=DOUBLE)
    block.channel_squeeze = Own(5)
    found = block(x)
    assert seen == [torch.Tensor]
    with kernels.backend("torch"):
        assert_close(found, block(x))
    block.spatial_squeeze_input.register_forward_hook(lambda module, inputs, y: seen.append(type(inputs[0])))
    block(x)
    assert seen[2:] == [torch.Tensor, torch.Tensor]
