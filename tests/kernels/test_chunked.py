"""The CPU's implementation in pieces that stay in the cache, against the definition and float64.

Memory that has not been written is NaN.
"""

import copy
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
import torch
from equivalence import step
from inputs import draw
from kernel_block_checks import *  # noqa: F403
from kernel_block_checks import assert_same, block
from kernel_cases import ALL_LAYOUTS, AXES, DOUBLE, define, read
from kernel_checks import *  # noqa: F403
from kernel_checks import assert_agree
from kernel_normalised_checks import *  # noqa: F403
from kernel_normalised_checks import OPERATORS
from kernel_search_checks import *  # noqa: F403
from kernel_transform_checks import *  # noqa: F403
from tolerances import TOLERANCES, assert_close

from sase_attn import kernels
from sase_attn.kernels.cpu import chunks
from sase_attn.kernels.cpu import operators as cpu

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("error", "ignore:.*torch.jit", "ignore::torch.jit.TracerWarning"),
]


@pytest.fixture(autouse=True)
def poison(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fill memory that is allocated with NaN; buffers are new in each test."""
    monkeypatch.setattr(chunks, "_kept", type(chunks._kept)())
    torch.use_deterministic_algorithms(True)
    assert torch.empty(3).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def operators():
    return cpu


@pytest.fixture
def backend() -> str:
    return "auto"


@pytest.fixture(params=["whole", "two samples", "a sample"])
def walk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Maps in one piece; in pieces of about two samples; of one, larger than a piece should be."""
    if request.param != "whole":
        monkeypatch.setattr(chunks, "BYTES", 1000 if request.param == "two samples" else 1)


@contextmanager
def _calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    names: list[str] = []
    with monkeypatch.context() as patch:
        for name in {*OPERATORS, "weight_backward", "sums"}:
            call = getattr(cpu, name)
            patch.setattr(cpu, name, lambda *args, call=call, name=name: (names.append(name), call(*args))[1])
        yield names


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Callable[[], AbstractContextManager[list[str]]]:
    return lambda: _calls(monkeypatch)


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@ALL_LAYOUTS
def test_in_pieces(operators, dtype, layout, monkeypatch):
    """Of two samples, the last of one."""
    x = layout(draw(5, 3, 4, 5, dtype=dtype))
    monkeypatch.setattr(chunks, "BYTES", 2 * 3 * 4 * 5 * (8 if dtype == DOUBLE else 4))
    assert [part.stop for part in chunks.Chunks(x).parts] == [2, 4, 5]
    assert_agree(operators, x)


def test_mean_far_above_the_deviation(operators, walk):
    """In float32, where raw moments would lose the third and most of the second."""
    x = (draw(1, 20, 5, 4, dtype=DOUBLE) - 1e3).float()
    for dims in AXES:
        found = read(operators, x, dims, ("biased_std", "third_moment"))
        assert_close(found["biased_std"], define(x.double(), dims, "biased_std"), tolerance=1e-6)
        assert_close(found["third_moment"], define(x.double(), dims, "third_moment"), tolerance=1e-5)


def test_what_the_block_calls(backend, calls):
    """Three reads of its input forward; backward two that sum and one that writes its gradient."""
    with kernels.backend(backend), calls() as names:
        step(block("sase"), draw(2, 6, 5, 3, dtype=DOUBLE))
    assert names == ["reduce", "reduce", "gate", "sums", "weight_backward", "map_backward"]


def test_buffers_do_not_grow_with_the_map(backend, monkeypatch):
    monkeypatch.setattr(chunks, "BYTES", 4000)
    module = block("sase", dtype=torch.float32)
    with kernels.backend(backend):
        step(module, draw(50, 6, 8, 8))
    memory = chunks._kept.__dict__.values()
    assert memory
    assert all(buffer.nbytes == 4000 for buffer in memory)


def in_a_thread(call: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=call)
    thread.start()
    return thread


def test_training_after_inference(backend):
    """In a thread whose buffers the inference made."""
    module, x = block("sase", training=False), draw(2, 6, 5, 3, dtype=DOUBLE)
    y, grads = step(module, x)
    found = []

    def call() -> None:
        with kernels.backend(backend):
            with torch.inference_mode():
                found.append(module(x))
            found.append(step(module, x))

    in_a_thread(call).join()
    assert_close(found[0], y)
    assert_close(found[1][0], y)
    assert_same(found[1][1], grads)


def test_two_threads(backend):
    """At once, each with buffers of its own."""
    modules = [block("sase", training=False) for _ in range(2)]
    inputs = [draw(4, 6, 16, 16, seed=seed, dtype=DOUBLE) for seed in range(2)]
    expected = [step(copy.deepcopy(module), x) for module, x in zip(modules, inputs, strict=True)]
    start, found = threading.Barrier(2), {}

    def call(i: int) -> None:
        with kernels.backend(backend):
            start.wait(10)
            found[i] = [step(modules[i], inputs[i]) for _ in range(20)]

    threads = [in_a_thread(lambda i=i: call(i)) for i in range(2)]
    for thread in threads:
        thread.join()
    for i, (y, grads) in enumerate(expected):
        for value, value_grads in found[i]:
            assert_close(value, y)
            assert_same(value_grads, grads)
