"""Export by `torch.export` and ONNX with dynamic sizes, and the comparison with the module that was exported."""

from collections.abc import Iterable, Sequence

import pytest
import torch
from pairwise import case
from tolerances import assert_close
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

# Single precision, computed by other kernels.
OTHER_KERNELS = 1e-5

Outputs = Tensor | Sequence[Tensor]


def exported(module: nn.Module, x: Tensor, smallest: int = 0, strict: bool = False) -> ExportedProgram:
    """With every dimension of `x` dynamic that may vary, whatever its size from `smallest` upwards."""
    spatial = {} if x.shape[2:] == (1, 1) else {2: Dim("H", min=smallest), 3: Dim("W", min=smallest)}
    return torch.export.export(module, (x,), dynamic_shapes=({0: Dim("B"), **spatial},), strict=strict)


class SideBySide(nn.Module):
    """Modules that take the same input, exported at once: an export has a price of its own, whatever is in it."""

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(modules)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(module(x) for module in self.members)


def assert_all_close(actual: Outputs, expected: Outputs, tolerance: float | None = None) -> None:
    """Of one output or several: those that differ are named by their numbers."""
    pairs = zip(*((y,) if isinstance(y, Tensor) else y for y in (actual, expected)), strict=True)
    for number, (y, wanted) in enumerate(pairs):
        with case("output", number):
            assert_close(y, wanted, tolerance=tolerance)


def check_exported(program: ExportedProgram, eager: nn.Module, inputs: list[Tensor]) -> None:
    """As exported, and in core operators."""
    for module in (program.module(), program.run_decompositions().module()):
        for x in inputs:
            assert_all_close(module(x), eager(x))


def check_onnx(program: ExportedProgram, eager: nn.Module, inputs: list[Tensor]) -> None:
    """By the exporter based on `torch.export`, at sizes other than the exported one too."""
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
