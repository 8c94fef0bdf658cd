"""Every operation and the block against the loops of `oracle.py`, in float64, at odd sizes, with random parameters."""

import oracle
import pytest
import torch
from inputs import OPS, draw, input_shape, randomise
from oracle_math import bilinear
from tolerances import assert_close
from torch import Tensor, nn

from sase_attn import Genotype, SASEBlock, create_op, genotypes
from sase_attn.genotype import EDGES, SPACES
from sase_attn.ops import OP_SETS

pytestmark = pytest.mark.usefixtures("one_thread")
TOLERANCE = 1e-9


def arrays(module: nn.Module) -> list:
    return [value.numpy() for name, value in module.state_dict().items() if not name.endswith("num_batches_tracked")]


def varies(y: Tensor) -> bool:
    """Whether a comparison says something: not all zeros behind a shut ReLU."""
    return bool(y.std() > 1e-3 and (y == 0).double().mean() < 0.9)


@pytest.mark.parametrize("channels, height, width", [(5, 3, 4), (8, 5, 3)])
@pytest.mark.parametrize("op_set, name", OPS)
def test_operation(op_set, name, channels, height, width):
    op = create_op(op_set, name, channels, size=(4, 3), rd_ratio=0.5, dtype=torch.float64)
    x = draw(*input_shape(op_set, 2, channels, height, width), seed=3, dtype=torch.float64)
    for training in (False, True):
        randomise(op, seed=channels)
        expected = torch.from_numpy(oracle.OPS[op_set][name](x.numpy(), *arrays(op), training=training))
        assert varies(expected)
        assert_close(op.train(training)(x).detach(), expected, tolerance=TOLERANCE)


@pytest.mark.parametrize("name", ["gsop", "gsop_sample"])
def test_gsop_of_maps_larger_than_its_grid(name):
    op = create_op("spatial_squeeze", name, 3, dtype=torch.float64).eval()
    randomise(op, seed=0)
    x = draw(1, 3, 11, 9, seed=4, dtype=torch.float64)
    assert_close(op(x).detach(), torch.from_numpy(oracle.OPS["spatial_squeeze"][name](x.numpy(), *arrays(op))))


@pytest.mark.parametrize("channels, size", [(1, 1), (17, 17), (18, 9), (22, 11), (32, 16)])
def test_l2norm_group_has_groups_of_at_most_16(channels, size):
    op = randomise(create_op("channel_squeeze", "l2norm_group", channels, dtype=torch.float64))
    assert (op.groups, oracle.largest_group(channels)) == (channels // size, size)
    x = draw(2, channels, 2, 2, dtype=torch.float64)
    expected = torch.from_numpy(oracle.OPS["channel_squeeze"]["l2norm_group"](x.numpy(), *arrays(op)))
    assert_close(op(x), expected, tolerance=TOLERANCE)


@pytest.mark.parametrize("height, width", [(4, 3), (9, 2), (1, 1), (3, 8)])
def test_the_oracle_resizes_like_torch(height, width):
    weight = draw(4, 3, dtype=torch.float64)
    expected = nn.functional.interpolate(weight[None, None], (height, width), mode="bilinear")[0, 0]
    assert_close(torch.from_numpy(bilinear(weight.numpy(), height, width)), expected)


GENOTYPES = [
    *genotypes.values(),
    *(Genotype.random(seed) for seed in range(4)),
    *(Genotype.random(seed, "paper", residual=bool(seed % 2)) for seed in range(4)),
]


@pytest.mark.parametrize("genotype", GENOTYPES, ids=str)
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_block(genotype, training):
    block = SASEBlock(8, genotype, rd_ratio=0.25, size=(3, 2), dtype=torch.float64).train(training)
    randomise(block, seed=5)
    x = draw(2, 8, 3, 4, seed=6, dtype=torch.float64)
    masks: list[Tensor] = []
    for edge in EDGES:
        getattr(block, edge).register_forward_hook(lambda module, args, y: masks.append(y))
    expected = oracle.block(
        x.numpy(),
        {edge: oracle.OPS[op_set][getattr(genotype, edge)] for edge, op_set in EDGES.items()},
        {edge: arrays(getattr(block, edge)) for edge in EDGES},
        block.mix.weight.detach().flatten().numpy(),
        arrays(block.norm),
        genotype.residual,
        training,
    )
    assert_close(block(x).detach(), torch.from_numpy(expected), tolerance=TOLERANCE)
    assert len(masks) == 6
    assert all(varies(mask) for mask in masks)


def test_the_oracle_knows_every_operation():
    assert {op_set: set(ops) for op_set, ops in oracle.OPS.items()} == {key: set(ops) for key, ops in OP_SETS.items()}
    assert all(name in oracle.OPS[EDGES[edge]] for space in SPACES.values() for edge in EDGES for name in space[edge])
