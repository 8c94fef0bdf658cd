"""Blocks that start as a constant gain: exactly constant, and every parameter learns from the second step on.

Behind a norm that starts at zero it is the third.
"""

import pytest
import torch
from inputs import draw, input_shape, randomise

from sase_attn import Genotype, SASEBlock, create_op, genotypes
from sase_attn.block import GATE_INITS
from sase_attn.errors import UnknownNameError
from sase_attn.genotype import EDGES
from sase_attn.ops import OP_SETS, Excite

pytestmark = [pytest.mark.filterwarnings("error"), pytest.mark.usefixtures("one_thread")]
GAINS = {"sase": 1.25, "sase_paper": 0.5}


@pytest.mark.parametrize("genotype", GAINS)
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_a_published_block_becomes_a_constant_gain(genotype, training):
    block = randomise(SASEBlock(16, genotype)).train(training)
    x = draw(2, 16, 5, 3)
    assert not torch.equal(block(x), GAINS[genotype] * x)
    assert block.zero_gates() == GAINS[genotype]
    assert torch.equal(block(x), GAINS[genotype] * x)


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_any_block_becomes_a_constant_gain(seed, residual):
    block = randomise(SASEBlock(8, Genotype.random(seed, residual=residual)))
    gain = block.zero_gates()
    x = draw(2, 8, 5, 3)
    assert torch.equal(block(x), gain * x)


@pytest.mark.parametrize("op_set", ["channel_excite", "spatial_excite"])
def test_every_excitation_returns_the_constant_that_it_gives(op_set):
    for name in OP_SETS[op_set]:
        op = randomise(create_op(op_set, name, 8))
        constant = op.zero_gate()
        y = op(draw(*input_shape(op_set, 2, 8, 5, 3)))
        assert constant == (0.0 if name == "fc" else 0.5)
        assert torch.equal(y, torch.full_like(y, constant)), name


@pytest.mark.parametrize("genotype", GAINS)
@pytest.mark.parametrize("channels", [16, 64])  # one hidden unit, and four
@pytest.mark.parametrize("rectified", [False, True], ids=["signed", "after ReLU"])
@pytest.mark.parametrize("gate_init", GATE_INITS)
def test_every_parameter_learns_from_the_second_step_on(genotype, channels, rectified, gate_init):
    for seed in range(5):
        torch.manual_seed(seed)
        block = SASEBlock(channels, genotype, gate_init=gate_init)
        block.zero_gates()
        optimiser = torch.optim.SGD(block.parameters(), lr=0.1)
        for step in (1, 2):
            x = draw(4, channels, 6, 5, seed=2 * seed + step)
            x = x.relu() if rectified else x
            optimiser.zero_grad()
            (block(x) - draw(*x.shape, seed=99 + step)).square().mean().backward()
            moving = {name for name, value in block.named_parameters() if value.grad.any()}
            if step == 1:  # a constant gate has no gradient with respect to what it is computed from
                assert moving == {"channel_excite.fc2.weight", "spatial_excite.rest.0.weight"}
            optimiser.step()
        still = {name for name, _ in block.named_parameters()} - moving
        assert not still, f"seed {seed}: no gradient for {sorted(still)}"


@pytest.mark.parametrize("genotype", GAINS)
def test_behind_a_norm_at_zero_every_parameter_learns_from_the_third_step_on(genotype):
    norm, block = torch.nn.BatchNorm2d(16), SASEBlock(16, genotype)
    torch.nn.init.zeros_(norm.weight)
    names = {name for name, _ in block.named_parameters()}
    optimiser = torch.optim.SGD([*norm.parameters(), *block.parameters()], lr=0.1)
    moving = []
    for step in (1, 2, 3):
        x = draw(4, 16, 6, 5, seed=step)
        optimiser.zero_grad()
        (block(norm(x)) - draw(*x.shape, seed=99 + step)).square().mean().backward()
        moving.append({name for name, value in block.named_parameters() if value.grad.any()})
        assert norm.weight.grad.any()
        optimiser.step()
    assert moving == [set(), {"channel_excite.fc2.weight", "spatial_excite.rest.0.weight"}, names]


def test_every_published_genotype_is_here():
    assert set(GAINS) == set(genotypes)
    assert {edge for edge in EDGES if edge.endswith("excite")} == {"channel_excite", "spatial_excite"}


@pytest.mark.parametrize("genotype", GAINS)
def test_constant_gates_are_an_initial_value(genotype):
    block = SASEBlock(16, genotype, gate_init="constant")
    x = draw(2, 16, 5, 3)
    assert torch.equal(block(x), GAINS[genotype] * x)


def test_release_gates_are_drawn_over_the_fan_out():
    torch.manual_seed(0)
    blocks = [SASEBlock(64, gate_init="release") for _ in range(300)]
    for name, fan_out in (
        ("channel_excite.fc1.weight", 4),
        ("channel_excite.fc2.weight", 64),
        ("spatial_excite.first.weight", 9),
        ("spatial_excite.rest.0.weight", 9),
        ("mix.weight", 1),
        ("channel_squeeze.mixer.weight", 1),
    ):
        drawn = torch.stack([block.get_parameter(name) for block in blocks])
        assert drawn.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.1), name
        assert abs(drawn.mean().item()) < 0.15 * drawn.std().item(), name
    assert all(torch.equal(block.channel_gate.alpha, torch.ones(64, 1, 1)) for block in blocks)


def test_initial_values_are_known_by_name():
    with pytest.raises(UnknownNameError, match="unknown gate_init 'constants'; did you mean constant"):
        SASEBlock(8, gate_init="constants")


def test_an_excitation_that_knows_no_constant_starts_as_it_is_made(monkeypatch):
    class Ones(Excite):
        def forward(self, z):
            return torch.ones_like(z)

    monkeypatch.setitem(OP_SETS["channel_excite"], "ones", Ones)
    genotype = str(genotypes["sase"]).replace("channel_excite:fc", "channel_excite:ones")
    block = SASEBlock(8, genotype, gate_init="constant")
    x = draw(2, 8, 5, 3)
    assert torch.equal(block(x), 1.75 * x)
