"""The block against its ten lines of plain PyTorch in `examples/`."""

import importlib.util
from pathlib import Path

import pytest
import torch
from inputs import draw, randomise

from sase_attn import SASEBlock, kernels

EXAMPLE = Path(__file__).parents[2] / "examples" / "sase_in_ten_lines.py"


@pytest.fixture(scope="module")
def ten_lines():
    spec = importlib.util.spec_from_file_location("sase_in_ten_lines", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.sase_block


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("backend", ["auto", "torch"])
@pytest.mark.parametrize("shape", [(2, 64, 14, 14), (3, 19, 5, 9)], ids=str)
def test_ten_lines_are_the_block(ten_lines, shape, backend, training):
    """In float64 to 1e-15 of the largest value, by the kernels and by the definition; with the block's own buffers."""
    torch.manual_seed(0)
    block = randomise(SASEBlock(shape[1], dtype=torch.float64)).train(training)
    x = draw(*shape, dtype=torch.float64)
    expected = ten_lines(x, block.state_dict(), training)
    with kernels.backend(backend):
        found = block(x)
    assert (found - expected).abs().max() <= 1e-15 * expected.abs().max()
    assert (found - x).abs().max() > 0.1 * x.abs().max()


def test_it_is_ten_lines():
    body = EXAMPLE.read_text().split('batch."""\n')[1].split("\n\n\n")[0]
    assert len(body.strip().splitlines()) <= 11
