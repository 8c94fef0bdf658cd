"""The implementation that these tests see: the kernels in Triton where they are interpreted, else those for the CPU.

Triton reads TRITON_INTERPRET where kernels are decorated, so its kernels are tested in a process of their own, which
`test_interpreted.py` starts. By hand: `TRITON_INTERPRET=1 pytest -n 0 tests/kernels`.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import ModuleType

import pytest
import torch
from kernel_cases import INTERPRETED, slow
from torch.utils._python_dispatch import TorchDispatchMode

from sase_attn import kernels
from sase_attn.kernels import layout
from sase_attn.kernels.cpu import chunks
from sase_attn.kernels.cpu import operators as cpu_operators

ONLY_TRITON = ["test_triton.py"]
ONLY_CPU = ["test_cpu.py", "test_dispatch.py", "test_gpu_code.py", "test_interpreted.py", "test_reader.py"]
collect_ignore = ONLY_CPU if INTERPRETED else ONLY_TRITON


@pytest.fixture
def poison(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Memory that has not been written is NaN; buffers are new in each test."""
    monkeypatch.setattr(chunks, "_kept", type(chunks._kept)())
    torch.use_deterministic_algorithms(True)
    assert torch.empty(3).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def definition() -> Iterator[None]:
    """What the tests compare with, outside of their `with` statements."""
    with kernels.backend("torch"):
        yield


@pytest.fixture
def operators() -> ModuleType:
    """The module with the implementation."""
    if not INTERPRETED:
        return cpu_operators
    from sase_attn.kernels.triton import operators

    assert operators.INTERPRETED
    return operators


@pytest.fixture
def backend() -> str:
    """The name of the choice."""
    return "triton" if INTERPRETED else "auto"


if INTERPRETED:
    WALKS = [pytest.param("one tile", marks=slow), pytest.param("many tiles", marks=slow), "pieces"]
else:
    WALKS = ["whole", "two samples", "a sample"]


@pytest.fixture(params=WALKS)
def walk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ways to go over a map.

    In Triton: maps that fit a tile; that take several in one program; that several programs share. On the CPU: in one
    piece; in pieces of about two samples; of one, larger than a piece should be.
    """
    if request.param in ("many tiles", "pieces"):
        monkeypatch.setattr(layout, "TILE", 16)
    if request.param == "many tiles":
        monkeypatch.setattr(layout, "PROGRAMS", 1)
    if request.param in ("two samples", "a sample"):
        monkeypatch.setattr(chunks, "BYTES", 1000 if request.param == "two samples" else 1)


class Dispatched(TorchDispatchMode):
    """Names of our operators that were called."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        if function.namespace == "sase_attn":
            self.names.append(function._opname)
        return function(*args, **(kwargs or {}))


@contextmanager
def dispatched() -> Iterator[list[str]]:
    with Dispatched() as mode:
        yield mode.names


NAMES = ("reduce", "gate", "sums", "normalised_sums", "weight_backward", "channels_backward", "map_backward")


@contextmanager
def called(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    names: list[str] = []
    with monkeypatch.context() as patch:
        for name in NAMES:
            call = getattr(cpu_operators, name)
            patch.setattr(cpu_operators, name, lambda *args, call=call, name=name: (names.append(name), call(*args))[1])
        yield names


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Callable[[], AbstractContextManager[list[str]]]:
    """A context manager whose value becomes the names of operators that were called."""
    return dispatched if INTERPRETED else lambda: called(monkeypatch)
