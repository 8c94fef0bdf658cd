"""Export by `torch.export` and ONNX with dynamic sizes, and the comparison with the module that was exported."""

from collections.abc import Iterable, Sequence

import pytest
import torch
from pairwise import case
from tolerances import assert_close
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

# The tolerance for float32 results that were computed by other kernels.
OTHER_KERNELS = 1e-5

Outputs = Tensor | Sequence[Tensor]


def exported(module: nn.Module, x: Tensor, smallest: int = 0, strict: bool = False) -> ExportedProgram:
    """Export `module`, with every axis of `x` that may vary dynamic, for any size from `smallest` on."""
    spatial = {} if x.shape[2:] == (1, 1) else {2: Dim("H", min=smallest), 3: Dim("W", min=smallest)}
    return torch.export.export(module, (x,), dynamic_shapes=({0: Dim("B"), **spatial},), strict=strict)


class SideBySide(nn.Module):
    """Several modules with the same input as one, because each export has a fixed cost whatever its size."""

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(modules)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(module(x) for module in self.members)


def assert_all_close(actual: Outputs, expected: Outputs, tolerance: float | None = None) -> None:
    """Compare one output or several; the error names those that differ by their numbers."""
    pairs = zip(*((y,) if isinstance(y, Tensor) else y for y in (actual, expected)), strict=True)
    for number, (y, wanted) in enumerate(pairs):
        with case("output", number):
            assert_close(y, wanted, tolerance=tolerance)


def check_exported(program: ExportedProgram, eager: nn.Module, inputs: list[Tensor]) -> None:
    """Check an exported program, and the same after decomposition to core operators."""
    for module in (program.module(), program.run_decompositions().module()):
        for x in inputs:
            assert_all_close(module(x), eager(x))


def check_onnx(program: ExportedProgram, eager: nn.Module, inputs: list[Tensor]) -> None:
    """Check the ONNX file of an exported program, also at sizes other than the exported one."""
    pytest.importorskip("onnxscript")
    model = torch.onnx.export(program, dynamo=True, verbose=False).model_proto
    run_onnx(model.SerializeToString(), eager, inputs)


def run_onnx(model: bytes, eager: nn.Module, inputs: list[Tensor]) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    (argument,) = session.get_inputs()
    for x in inputs:
        outputs = session.run(None, {argument.name: x.numpy()})
        assert_all_close([torch.from_numpy(y) for y in outputs], eager(x), tolerance=OTHER_KERNELS)
