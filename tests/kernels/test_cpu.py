"""The implementation for the CPU: in pieces that stay in the cache, with buffers of each thread."""

import copy
import threading
from collections.abc import Callable

import pytest
import torch
from equivalence import step
from inputs import draw
from kernel_cases import ALL_LAYOUTS, AXES, DOUBLE, STRICT, assert_agree, assert_same, block, define, read
from tolerances import TOLERANCES, assert_close

from sase_attn import kernels
from sase_attn.kernels.cpu import chunks

pytestmark = STRICT


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
