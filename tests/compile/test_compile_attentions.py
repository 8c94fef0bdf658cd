"""The attentions of the literature under `torch.compile`: one graph, forward and backward, for all sizes."""

import copy

import pytest
import torch
from compiling import maps, one_graph
from equivalence import assert_same_steps
from inputs import randomise

from sase_attn import SASEBlock
from sase_attn.attentions import ATTENTIONS, create_attention
from sase_attn.block import GATE_INITS

pytestmark = pytest.mark.usefixtures("one_thread")
SHAPES = [(2, 24, 8, 6), (3, 24, 9, 5), (4, 24, 16, 12)]
SLOW_TO_TRACE = ("autola", "glam")


def check(module, backend="aot_eager"):
    with one_graph():
        compiled = torch.compile(copy.deepcopy(module), fullgraph=True, backend=backend)
        assert_same_steps(compiled, module, maps(*SHAPES))


@pytest.mark.parametrize(
    "name, training",
    [
        pytest.param(name, training, id=f"{name}-{mode}", marks=[pytest.mark.slow] if slow else [])
        for name in ATTENTIONS
        for training, mode in [(True, "train"), (False, "eval")]
        for slow in [not training or name in SLOW_TO_TRACE]
        if name != "sase"
    ],
)
def test_compiles_once_for_all_sizes(name, training):
    check(randomise(create_attention(name, 24, dtype=torch.float64)).train(training))


@pytest.mark.slow
@pytest.mark.parametrize("name", ATTENTIONS)
def test_generated_code(name):
    check(randomise(create_attention(name, 24, dtype=torch.float64)), "inductor")


@pytest.mark.parametrize("gate_init", GATE_INITS)
def test_blocks_as_they_start(gate_init):
    torch.manual_seed(0)
    check(SASEBlock(24, gate_init=gate_init, dtype=torch.float64))
