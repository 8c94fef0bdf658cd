"""The skip modules, of two maps, under TorchScript, `torch.fx`, `torch.export`, ONNX and `torch.compile`."""

import copy
import io

import pytest
import torch
from compiling import one_graph
from inputs import draw, randomise
from tolerances import assert_close
from torch import Tensor, nn
from torch.export import Dim
from torch.utils._python_dispatch import TorchDispatchMode

from sase_attn.spatially_adaptive import SkipLayerExcitation, SpatiallyAdaptiveSkip

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"),
]
both = pytest.mark.parametrize("kind", [SpatiallyAdaptiveSkip, SkipLayerExcitation])
SIZES = [(2, (8, 6), (4, 3)), (3, (9, 5), (5, 2)), (4, (16, 12), (3, 7))]  # the first is the one that is traced


def made(kind: type[nn.Module], training: bool = False, **options: object) -> nn.Module:
    return randomise(kind(16, 6, **options)).train(training)


def maps(batch: int, high: tuple[int, int], low: tuple[int, int]) -> tuple[Tensor, Tensor]:
    return draw(batch, 6, *high), draw(batch, 16, *low, seed=1)


@both
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_script_and_fx(kind, training):
    module = made(kind, training)
    for traced in (torch.jit.script(copy.deepcopy(module)), torch.fx.symbolic_trace(copy.deepcopy(module))):
        for size in SIZES:
            assert_close(traced(*maps(*size)), copy.deepcopy(module)(*maps(*size)))


def exported(module: nn.Module) -> torch.export.ExportedProgram:
    batch = Dim("B")
    shapes = ({0: batch, 2: Dim("H", min=2), 3: Dim("W", min=2)}, {0: batch, 2: Dim("h", min=2), 3: Dim("w", min=2)})
    return torch.export.export(module, maps(*SIZES[0]), dynamic_shapes=shapes)


def test_export_at_any_size():
    module = made(SpatiallyAdaptiveSkip, normalize="softmax")
    with torch.no_grad():
        program = exported(module)
        for size in SIZES:
            assert_close(program.module()(*maps(*size)), module(*maps(*size)))


@pytest.mark.slow
def test_onnx_at_any_size():
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    module, file = made(SpatiallyAdaptiveSkip), io.BytesIO()
    with torch.no_grad():
        file.write(torch.onnx.export(exported(module), dynamo=True, verbose=False).model_proto.SerializeToString())
        session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
        names = [argument.name for argument in session.get_inputs()]
        for size in SIZES:
            given = maps(*size)
            (y,) = session.run(None, dict(zip(names, (x.numpy() for x in given), strict=True)))
            assert_close(torch.from_numpy(y), module(*given))


def test_compiles_once_for_all_sizes():
    module = made(SpatiallyAdaptiveSkip, training=True).double()
    with one_graph():
        compiled = torch.compile(copy.deepcopy(module), fullgraph=True, backend="aot_eager")
        for size in SIZES:
            steps = []
            for each in (compiled, module):
                inputs = [x.double() for x in maps(*size)]
                for x in inputs:
                    for dim in (0, 2, 3):
                        torch._dynamo.mark_dynamic(x, dim)
                y = each(*[x.requires_grad_() for x in inputs])
                steps.append([y, *torch.autograd.grad(y.square().sum(), [*inputs, *each.parameters()])])
            for ours, theirs in zip(*steps, strict=True):
                assert_close(ours, theirs)


def test_no_tensor_is_larger_than_the_target():
    """The mixture is formed at the source's resolution and resized once, groups are no axis of their own there."""

    class Largest(TorchDispatchMode):
        numbers = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            outputs = function(*args, **(kwargs or {}))
            for y in outputs if isinstance(outputs, tuple | list) else [outputs]:
                if isinstance(y, Tensor):
                    self.numbers = max(self.numbers, y.numel())
            return outputs

    module, (target, source) = made(SpatiallyAdaptiveSkip), maps(2, (32, 32), (4, 4))
    with Largest() as seen:
        module(target, source)
    assert seen.numbers == target.numel()
