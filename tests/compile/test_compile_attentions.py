"""The attentions of the literature under `torch.compile`: one graph, forward and backward, for all sizes."""

import copy

import pytest
import torch
from compiling import maps, one_graph
from equivalence import assert_same_steps
from inputs import randomise
from torch import nn
from torch.fx.experimental.symbolic_shapes import ConstraintViolationError

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


@pytest.fixture(scope="module")
def inductor_takes_sizes():
    """Whether inductor compiles a step of a plain convolution for all sizes. That of torch 2.14 takes H and W as
    constants in the backward pass, and raises."""
    try:
        check(nn.Sequential(nn.Conv2d(24, 24, 3, padding=1, bias=False, dtype=torch.float64), nn.Sigmoid()), "inductor")
    except (AssertionError, ConstraintViolationError):
        return False
    return True


@pytest.mark.slow
@pytest.mark.parametrize("name", ATTENTIONS)
def test_generated_code(name, inductor_takes_sizes):
    module = randomise(create_attention(name, 24, dtype=torch.float64))
    if inductor_takes_sizes:
        check(module, "inductor")
        return
    for shape in SHAPES:
        with one_graph():
            compiled = torch.compile(copy.deepcopy(module), fullgraph=True)
            assert_same_steps(compiled, module, maps(shape, dims=()))


@pytest.mark.parametrize("gate_init", GATE_INITS)
def test_blocks_as_they_start(gate_init):
    torch.manual_seed(0)
    check(SASEBlock(24, gate_init=gate_init, dtype=torch.float64))
