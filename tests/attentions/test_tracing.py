"""The attentions of the literature under TorchScript, `torch.fx`, `torch.export` and ONNX."""

import copy

import pytest
import torch
from exporting import check_onnx, exported
from inputs import draw, randomise
from tolerances import assert_close
from torch import nn

from sase_attn.attentions import ATTENTIONS, create_attention

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"),
]
every_attention = pytest.mark.parametrize("name", [name for name in ATTENTIONS if name not in ("sase", "tiled_se")])
SHAPES = [(2, 24, 8, 6), (3, 24, 9, 5), (4, 24, 16, 12)]  # the first is the one that is traced


def made(name: str, training: bool = False) -> nn.Module:
    return randomise(create_attention(name, 24)).train(training)


@every_attention
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_script(name, training):
    module = made(name, training)
    scripted = torch.jit.script(copy.deepcopy(module))
    for shape in [*SHAPES, (2, 24, 1, 1)]:
        assert_close(scripted(draw(*shape)), module(draw(*shape)))


@every_attention
def test_fx(name):
    module = made(name)
    traced = torch.fx.symbolic_trace(module)
    for shape in SHAPES:
        assert_close(traced(draw(*shape)), module(draw(*shape)))


@every_attention
def test_export_at_any_size(name):
    module = made(name)
    inputs = [draw(*shape) for shape in SHAPES]
    with torch.no_grad():
        program = exported(module, inputs[0], smallest=2)
        for x in inputs:
            assert_close(program.module()(x), module(x))


@pytest.mark.slow
@every_attention
def test_onnx_at_any_size(name):
    module = made(name)
    with torch.no_grad():
        inputs = [draw(*shape) for shape in SHAPES]
        check_onnx(exported(module, inputs[0], smallest=2), module, inputs)
