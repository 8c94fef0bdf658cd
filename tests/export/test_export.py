"""`torch.export`, ONNX run by onnxruntime, and AOTInductor packages, with dynamic batch size, height and width."""

import copy
import io
from pathlib import Path

import pytest
import timm
import torch
from equivalence import GENOTYPES
from exporting import OTHER_KERNELS, SideBySide, check_exported, check_onnx, exported, run_onnx
from inputs import draw, input_shape, randomise
from tolerances import assert_close

import sase_attn  # noqa: F401  registers the models with timm
from sase_attn import SASEBlock, create_op
from sase_attn.ops import OP_SETS

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
]
every_genotype = pytest.mark.parametrize("genotype", GENOTYPES.values(), ids=GENOTYPES.keys())

# The first is the one that is exported; torch takes a dimension of 1 there for a constant.
SHAPES = [(2, 24, 5, 6), (3, 24, 9, 4), (1, 24, 1, 1), (20, 24, 8, 8), (1, 24, 30, 1)]


@pytest.mark.parametrize("op_set", OP_SETS)
def test_every_op(op_set):
    ops = SideBySide(randomise(create_op(op_set, name, 24)) for name in OP_SETS[op_set]).eval()
    inputs = [draw(*input_shape(op_set, *shape)) for shape in SHAPES]
    with torch.no_grad():
        program = exported(ops, inputs[0])
        check_exported(program, ops, inputs)
        check_onnx(program, ops, inputs)


@pytest.mark.parametrize("op_set", OP_SETS)
def test_every_op_by_the_exporter_before(op_set):
    """The one based on TorchScript, which timm's onnx_export.py still uses by default."""
    ops = SideBySide(randomise(create_op(op_set, name, 24)) for name in OP_SETS[op_set]).eval()
    inputs = [draw(*input_shape(op_set, *shape)) for shape in SHAPES]
    axes = {0: "B"} if op_set == "channel_excite" else {0: "B", 2: "H", 3: "W"}
    file = io.BytesIO()
    with torch.no_grad():
        torch.onnx.export(ops, inputs[0], file, dynamo=False, input_names=["x"], dynamic_axes={"x": axes})
        run_onnx(file.getvalue(), ops, inputs)


@every_genotype
def test_block(genotype):
    block = randomise(SASEBlock(24, genotype)).eval()
    inputs = [draw(*shape) for shape in SHAPES]
    with torch.no_grad():
        program = exported(block, inputs[0])
        check_exported(program, block, inputs)
        check_onnx(program, block, inputs)


@pytest.mark.parametrize("name", ["sase", "random 1"])
def test_block_traced_by_dynamo(name):
    block = randomise(SASEBlock(24, GENOTYPES[name])).eval()
    check_exported(exported(block, draw(*SHAPES[0]), strict=True), block, [draw(*shape) for shape in SHAPES])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_block_in_other_types(dtype):
    block = randomise(SASEBlock(24, dtype=dtype)).eval()
    inputs = [draw(*shape, dtype=dtype) for shape in SHAPES]
    with torch.no_grad():
        program = exported(block, inputs[0])
        check_exported(program, block, inputs)
        if dtype == torch.float16:
            check_onnx(program, block, inputs)


@every_genotype
def test_block_in_training_keeps_its_running_statistics(genotype):
    block = randomise(SASEBlock(24, genotype)).train()
    module = exported(copy.deepcopy(block), draw(*SHAPES[0])).module()
    for shape in SHAPES[:2]:
        assert_close(module(draw(*shape)), block(draw(*shape)))
    buffers = dict(module.named_buffers())
    for name, value in block.named_buffers():
        assert_close(buffers[name].double(), value.double(), value.dtype if value.is_floating_point() else None)


def test_exported_block_can_be_saved():
    block = randomise(SASEBlock(24)).eval()
    file = io.BytesIO()
    torch.export.save(exported(block, draw(*SHAPES[0])), file)
    file.seek(0)
    check_exported(torch.export.load(file), block, [draw(*shape) for shape in SHAPES])


@pytest.mark.slow
@every_genotype
def test_compiled_package_of_the_block(genotype, tmp_path: Path):
    block = randomise(SASEBlock(24, genotype)).eval()
    with torch.no_grad():
        program = exported(block, draw(*SHAPES[0]))
        package = torch._inductor.aoti_compile_and_package(program, package_path=str(tmp_path / "block.pt2"))
        module = torch._inductor.aoti_load_package(package)
        for shape in SHAPES:
            assert_close(module(draw(*shape)), block(draw(*shape)), tolerance=OTHER_KERNELS)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sase_resnet18", "sase_resnet20"])
def test_whole_model(name):
    """timm's own ResNets too need sizes from 33 upwards."""
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=10).eval()
    inputs = [draw(2, 3, 64, 64), draw(3, 3, 48, 80), draw(1, 3, 96, 33)]
    with torch.no_grad():
        program = exported(model, inputs[0], smallest=33)
        check_exported(program, model, inputs)
        check_onnx(program, model, inputs)
