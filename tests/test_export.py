"""torch.export and ONNX: dynamic B, H, W, right at sizes other than the exported one, from 1×1 maps upward."""

import onnxruntime
import pytest
import torch
from inputs import OPS, draw, input_shape, randomise

from sase_attn import Genotype, SASEBlock, create_op

GENOTYPES = ["sase", "sase_paper", str(Genotype.random(1)), str(Genotype.random(2))]
SIZES = [(1, 1, 1), (3, 9, 4), (2, 16, 16)]


def dynamic(channel_excite=False):
    axes = ("B",) if channel_excite else ("B", "H", "W")
    return ({(0, 2, 3)[i]: torch.export.Dim(axis) for i, axis in enumerate(axes)},)


def onnx_session(module, x, dims):
    program = torch.onnx.export(module, (x,), dynamo=True, dynamic_shapes=dims, verbose=False)
    return onnxruntime.InferenceSession(program.model_proto.SerializeToString())


@pytest.mark.parametrize("genotype", GENOTYPES)
def test_block_exports(genotype):
    block = randomise(SASEBlock(16, genotype)).eval()
    exported = torch.export.export(block, (draw(2, 16, 5, 6),), dynamic_shapes=dynamic())
    for b, h, w in SIZES:
        x = draw(b, 16, h, w)
        torch.testing.assert_close(exported.module()(x), block(x))
        torch.testing.assert_close(exported.run_decompositions().module()(x), block(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("genotype", GENOTYPES)
def test_block_to_onnx(genotype):
    block = randomise(SASEBlock(16, genotype)).eval()
    session = onnx_session(block, draw(2, 16, 5, 6), dynamic())
    for b, h, w in SIZES:
        x = draw(b, 16, h, w)
        (y,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        torch.testing.assert_close(torch.from_numpy(y), block(x).detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("set_name, name", OPS)
def test_operation_to_onnx(set_name, name):
    op = randomise(create_op(set_name, name, 16)).eval()
    x = draw(*input_shape(set_name, 2, 16, 5, 6))
    session = onnx_session(op, x, dynamic(set_name == "channel_excite"))
    for b, h, w in SIZES:
        x = draw(*input_shape(set_name, b, 16, h, w))
        (y,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        torch.testing.assert_close(torch.from_numpy(y), op(x).detach(), rtol=1e-4, atol=1e-5)
