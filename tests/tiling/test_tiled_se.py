"""TiledSE against loops over tiles, the paper's reference tensors, SE itself; scripted, traced and exported to ONNX."""

import copy
import io
from itertools import product
from types import SimpleNamespace

import pytest
import torch
from checkout import REFERENCE_FILES
from equivalence import assert_same_steps
from inputs import draw, randomise
from safetensors.torch import load_file
from timm.layers import EffectiveSEModule, SEModule
from tolerances import REFERENCE, assert_close
from torch import Tensor, nn
from torch.export import Dim
from torch.func import vmap

from sase_attn.attentions.se import SE
from sase_attn.tiling.block import TiledSE
from sase_attn.tiling.tiles import over_tiles, tiled_maximum, tiled_mean

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
]
TENSORS = load_file(REFERENCE_FILES / "literature.safetensors")
TILES = [(7, None), (None, 3), (4, 4), (1, None), (2, 5), (None, None), (100, 100)]
# The first is the one that is traced and exported: at its size no tile fits exactly.
SHAPES = [(2, 8, 10, 9), (3, 8, 14, 5), (1, 8, 1, 1), (2, 8, 4, 4), (1, 8, 30, 1), (2, 8, 7, 21), (1, 8, 3, 2)]
OTHER_KERNELS = 1e-5


def by_loops(module: TiledSE, x: Tensor) -> Tensor:
    """Every tile cut out, squeezed, excited and gated on its own, in float64."""
    double, x = copy.deepcopy(module).double(), x.double()
    rows, columns = (side or size for side, size in zip(module.tile, x.shape[2:], strict=True))
    y = torch.full_like(x, torch.nan)
    for top, left in product(range(0, x.shape[2], rows), range(0, x.shape[3], columns)):
        here = (..., slice(top, top + rows), slice(left, left + columns))
        tile = x[here]
        gate = tile.flatten(2).mean(2)[..., None, None]
        if module.add_maxpool:
            gate = (gate + tile.flatten(2).max(2).values[..., None, None]) / 2
        for layer in double.children():
            gate = layer(gate)
        y[here] = tile * gate
    return y


def tiled(tile: tuple[int | None, int | None], add_maxpool: bool = False) -> TiledSE:
    module = randomise(TiledSE(8, tile, rd_channels=3)).eval()
    module.add_maxpool = add_maxpool
    return module


every_tile = pytest.mark.parametrize("tile", TILES, ids=str)
both_squeezes = pytest.mark.parametrize("add_maxpool", [False, True], ids=["mean", "mean and maximum"])


@every_tile
@both_squeezes
def test_loops_over_tiles(tile, add_maxpool):
    module = tiled(tile, add_maxpool)
    for shape in SHAPES:
        x = draw(*shape)
        assert_close(module(x), by_loops(module, x).float())
        strided = draw(*shape).to(memory_format=torch.channels_last)
        assert_close(module(strided), module(x))
        assert module(strided).is_contiguous(memory_format=torch.channels_last)


def test_gates_of_a_map_of_ten_rows():
    """Seven rows and three, by hand; interpolation would put the border between the fifth and the sixth row."""
    x = torch.arange(10.0).reshape(1, 1, 10, 1).expand(1, 1, 10, 4)
    means = tiled_mean(x, 7, None)
    assert means.tolist() == [[[[3.0], [8.0]]]]
    assert over_tiles(means, x, 7, None).flatten().tolist() == [3.0] * 7 + [8.0] * 3
    assert tiled_mean(x, None, 3).tolist() == [[[[4.5, 4.5]]]]
    assert tiled_maximum(x - 20, 7, None).flatten().tolist() == [-14.0, -11.0]
    square = tiled_mean(x.reshape(1, 1, 5, 8), 4, 5)
    rows = x.reshape(5, 8)
    expected = [[rows[:4, :5].mean(), rows[:4, 5:].mean()], [rows[4:, :5].mean(), rows[4:, 5:].mean()]]
    assert_close(square, torch.tensor(expected)[None, None])
    assert over_tiles(square, x.reshape(1, 1, 5, 8), 4, 5).shape == (1, 1, 5, 8)


@pytest.mark.parametrize("case", ["tse_rows7/eval", "tse_rows7_exact/eval"])
def test_reference_tensors(case):
    prefix = f"{case}/"
    tensors = {key.removeprefix(prefix): value for key, value in TENSORS.items() if key.startswith(prefix)}
    module = TiledSE(tensors["x0"].shape[1])
    names = {key.removeprefix("param/"): value for key, value in tensors.items() if key.startswith("param/")}
    module.load_state_dict(names)
    x = tensors["x0"].clone().requires_grad_()
    y = module(x)
    y.backward(tensors["cotangent"])
    assert_close(y, tensors["y"], tolerance=REFERENCE)
    assert_close(x.grad, tensors["grad_x0"], tolerance=REFERENCE)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16], ids=str)
@both_squeezes
@pytest.mark.parametrize("tile", [(None, None), (10, None), (10, 9), (999, 9)], ids=str)
def test_a_tile_that_covers_the_map_is_se_bit_by_bit(dtype, add_maxpool, tile):
    host = randomise(SEModule(8, rd_channels=3, add_maxpool=add_maxpool)).to(dtype)
    layers = dict(host.named_children())
    module = TiledSE.from_squeeze_excite(SimpleNamespace(channels=8, layers=layers, add_maxpool=add_maxpool), tile)
    x = draw(2, 8, 10, 9).to(dtype)
    for form in (torch.contiguous_format, torch.channels_last):
        y = module(x.to(memory_format=form))
        assert torch.equal(y, host(x.to(memory_format=form)))
        assert y.dtype == dtype and y.is_contiguous(memory_format=form)


def test_layers_of_a_host_are_shared():
    host = EffectiveSEModule(8)
    module = TiledSE.from_squeeze_excite(
        SimpleNamespace(channels=8, layers=dict(host.named_children()), add_maxpool=False)
    )
    assert module.fc is host.fc and module.tile == (7, None)
    assert list(module.state_dict()) == list(host.state_dict())
    plain = SE(8)
    assert list(TiledSE(8).state_dict()) == list(plain.state_dict())
    assert [p.shape for p in TiledSE(64, rd_ratio=1 / 4, bias=False).parameters()] == [(16, 64, 1, 1), (64, 16, 1, 1)]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_is_averaged_in_single(dtype):
    x = (draw(1, 8, 30, 64) * 100 + 2000).to(dtype)  # the sum over a tile is beyond float16
    assert_close(tiled_mean(x, 7, None), tiled_mean(x.double(), 7, None), dtype=dtype)
    module = tiled((7, None)).to(dtype)
    y = module(draw(2, 8, 10, 9).to(dtype))
    assert y.dtype == dtype
    assert_close(y, by_loops(module, draw(2, 8, 10, 9).to(dtype)).to(dtype))


@every_tile
@both_squeezes
def test_gradients(tile, add_maxpool):
    module = tiled(tile, add_maxpool).double()
    for shape in ((2, 8, 5, 3), (1, 8, 1, 1)):
        x = draw(*shape, dtype=torch.float64).requires_grad_()
        assert torch.autograd.gradcheck(module, (x,), fast_mode=True)
    assert all(parameter.grad is None for parameter in module.parameters())
    module(x).sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in module.parameters())


def test_a_tile_sees_no_other():
    """Streaming: what comes below a tile changes nothing in it."""
    module, x = tiled((7, None)), draw(1, 8, 20, 6)
    changed = x.clone()
    changed[:, :, 14:] = 1e3
    assert torch.equal(module(x)[:, :, :14], module(changed)[:, :, :14])
    assert not torch.equal(module(x)[:, :, 14:], module(changed)[:, :, 14:])


def test_zero_gates():
    module = tiled((4, 4))
    assert module.zero_gates() == 0.5
    x = draw(2, 8, 10, 9)
    assert torch.equal(module(x), x * 0.5)
    hard = TiledSE(8, gate_layer="hard_sigmoid")
    assert hard.zero_gates() == 0.5
    empty = TiledSE.from_squeeze_excite(SimpleNamespace(channels=8, layers={"gate": nn.Sigmoid()}, add_maxpool=False))
    with pytest.raises(TypeError, match="has no weights"):
        empty.zero_gates()


@pytest.mark.parametrize(
    "tile", [(0, None), (7,), 7, (7, 7, 7), (True, None), ("7", None), (-1, 2), (2.0, 2)], ids=repr
)
def test_no_tile(tile):
    with pytest.raises(ValueError, match=r"a tile is \(rows, columns\)"):
        TiledSE(8, tile)


def test_errors_and_repr():
    with pytest.raises(ValueError, match=r"expected an input of shape \(B, 8, H, W\), got \(2, 9, 4, 4\)"):
        TiledSE(8)(torch.zeros(2, 9, 4, 4))
    with pytest.raises(ValueError, match="channels"):
        TiledSE(0)
    assert "8, tile=7 rows x whole columns\n" in repr(TiledSE(8))
    assert TiledSE(8, [3, None]).tile == (3, None)  # as JSON has it


@every_tile
@both_squeezes
def test_script_fx_trace_and_transforms(tile, add_maxpool):
    module = tiled(tile, add_maxpool).double()
    inputs = [draw(*shape, dtype=torch.float64) for shape in SHAPES]
    script = torch.jit.script(copy.deepcopy(module))
    assert_same_steps(script, module, inputs * 2)
    graph = torch.fx.symbolic_trace(copy.deepcopy(module))
    assert_same_steps(graph, module, inputs)
    trace = torch.jit.trace(copy.deepcopy(module), inputs[0], check_trace=False)
    for x in inputs:
        assert_close(trace(x), module(x))
    assert_close(vmap(lambda sample: module(sample[None])[0])(inputs[0]), module(inputs[0]))
    assert module.to("meta")(inputs[1].to("meta")).shape == inputs[1].shape


def test_compiled_at_several_sizes():
    module = tiled((4, None))
    compiled = torch.compile(module, backend="aot_eager", dynamic=True, fullgraph=True)
    for shape in SHAPES[:3]:
        assert_close(compiled(draw(*shape)), module(draw(*shape)))


def exported(module: nn.Module, strict: bool = False) -> torch.export.ExportedProgram:
    sizes = ({0: Dim("B"), 2: Dim("H", min=0), 3: Dim("W", min=0)},)
    return torch.export.export(module, (draw(*SHAPES[0]),), dynamic_shapes=sizes, strict=strict)


def run_onnx(model: bytes, module: TiledSE, shapes: list[tuple[int, ...]]) -> None:
    session = pytest.importorskip("onnxruntime").InferenceSession(model, providers=["CPUExecutionProvider"])
    for shape in shapes:
        (y,) = session.run(None, {session.get_inputs()[0].name: draw(*shape).numpy()})
        assert_close(torch.from_numpy(y), by_loops(module, draw(*shape)).float(), tolerance=OTHER_KERNELS)


@pytest.mark.parametrize(
    "tile, add_maxpool, strict",
    [((7, None), False, False), ((None, 3), True, False), ((4, 4), True, False), ((7, 4), True, True)],
    ids=str,
)
def test_export_with_dynamic_sizes(tile, add_maxpool, strict):
    module = tiled(tile, add_maxpool)
    program = exported(module, strict)
    for shape in SHAPES:
        assert_close(program.module()(draw(*shape)), by_loops(module, draw(*shape)).float())


@pytest.mark.parametrize("opset", [13, 17, 18, 19, 20])
@pytest.mark.parametrize("tile", [(7, None), (4, 4)], ids=str)
@both_squeezes
def test_onnx_by_the_exporter_before(opset, tile, add_maxpool):
    """The one based on TorchScript: traced at one size, run at all."""
    onnx = pytest.importorskip("onnx")
    module, file = tiled(tile, add_maxpool), io.BytesIO()
    axes = {"x": {0: "B", 2: "H", 3: "W"}}
    arguments = dict(dynamo=False, input_names=["x"], dynamic_axes=axes, opset_version=opset)
    torch.onnx.export(module, draw(*SHAPES[0]), file, **arguments)
    assert onnx.load_from_string(file.getvalue()).opset_import[0].version == opset
    run_onnx(file.getvalue(), module, SHAPES)


@pytest.mark.parametrize(
    "opset, tile", [(20, (7, 4)), *(pytest.param(opset, (7, None), marks=pytest.mark.slow) for opset in (17, 18))]
)
def test_onnx_by_the_exporter_on_torch_export(opset, tile):
    pytest.importorskip("onnxscript")
    module = tiled(tile, add_maxpool=True)
    program = torch.onnx.export(exported(module), dynamo=True, verbose=False, opset_version=opset)
    assert program.model_proto.opset_import[0].version == opset
    run_onnx(program.model_proto.SerializeToString(), module, SHAPES)


def test_onnx_of_one_size_pads_and_divides_by_counts():
    """No average pooling, whose `ceil_mode` onnxruntime divides by the whole window below opset 19, and no resizing."""
    pytest.importorskip("onnxscript")
    module = tiled((7, None))
    model = torch.onnx.export(module, (draw(*SHAPES[0]),), dynamo=True, verbose=False).model_proto
    kinds = {node.op_type for node in model.graph.node}
    assert "Pad" in kinds and not kinds & {"AveragePool", "Resize", "Upsample", "GlobalAveragePool"}
    run_onnx(model.SerializeToString(), module, SHAPES[:1])
