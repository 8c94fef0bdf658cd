"""Which calls the kernels take: the choice of the backend, by block and by thread."""

import operator
import subprocess
import sys
import threading

import pytest
import torch
from checkout import ROOT
from inputs import draw
from normalised_tail import OPERATORS
from normalised_tail import unit as tail_unit
from tolerances import assert_close

from sase_attn import SASEBlock, kernels
from sase_attn.errors import UnknownNameError
from sase_attn.kernels import dispatch, private, reader

pytestmark = pytest.mark.usefixtures("one_thread")


def test_importing_the_package_does_not_import_the_kernels():
    code = (
        "import sys, torch, timm\nbefore = set(sys.modules)\nimport sase_attn\n"
        "sase_attn.SASEBlock(4)(torch.ones(1, 4, 2, 2))\n"
        "new = set(sys.modules) - before\n"
        "assert 'sase_attn.kernels.dispatch' in new\n"
        "kernels = ('triton', 'sase_attn.kernels.triton')\n"
        "assert not [name for name in new if name.startswith(kernels)]"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.fixture(autouse=True)
def automatic():
    with kernels.backend("auto"):
        yield


@pytest.fixture
def with_triton(monkeypatch):
    """As if Triton were installed, whether or not it is."""
    monkeypatch.setattr(dispatch, "_is_installed", lambda: True)


def test_choices_nest_and_end(with_triton):
    assert dispatch.get_backend() == "auto"
    with kernels.backend("triton"):
        assert dispatch.get_backend() == "triton"
        with kernels.backend("torch"):
            assert dispatch.get_backend() == "torch"
        assert dispatch.get_backend() == "triton"
        kernels.set_backend("torch")
        assert dispatch.get_backend() == "torch"
    assert dispatch.get_backend() == "auto"
    with pytest.raises(KeyError), kernels.backend("torch"):
        raise KeyError
    assert dispatch.get_backend() == "auto"


def test_threads_follow_the_main_one_until_they_choose():
    seen = []

    def other():
        seen.append(dispatch.get_backend())
        with kernels.backend("auto"):
            seen.append(dispatch.get_backend())
            entered.set()
            left.wait(10)
            seen.append(dispatch.get_backend())
        seen.append(dispatch.get_backend())

    entered, left = threading.Event(), threading.Event()
    with kernels.backend("torch"):
        thread = threading.Thread(target=other)
        thread.start()
        entered.wait(10)
        assert dispatch.get_backend() == "torch"
    left.set()
    thread.join()
    assert seen == ["torch", "auto", "auto", "auto"]


def test_unknown_choice():
    with pytest.raises(UnknownNameError, match="unknown backend 'trition'; did you mean triton"):
        kernels.set_backend("trition")
    assert dispatch.get_backend() == "auto"


def test_triton_that_is_not_installed(monkeypatch):
    monkeypatch.setattr(dispatch, "_is_installed", lambda: False)
    with pytest.raises(RuntimeError, match="not installed: pip install triton"):
        kernels.set_backend("triton")
    assert dispatch.get_backend() == "auto"


def test_triton_where_it_cannot_run(with_triton, monkeypatch):
    monkeypatch.setattr(dispatch, "_is_interpreted", lambda: False)
    block, x = SASEBlock(4).eval(), draw(2, 4, 3, 3)
    y = block(x)
    with kernels.backend("triton"):
        with pytest.raises(RuntimeError, match="kernels take CUDA tensors .* got one on cpu") as error:
            block(x)
        assert "\n" not in str(error.value)
        with pytest.raises(RuntimeError, match="kernels take CUDA tensors"):
            reader.statistics_of(x, ["maximum"], [1])
        # Axes that no kernel reduces, and what a compiler sees, take the definition.
        assert_close(reader.statistics_of(x, ["maximum"], [1, 2])[0], x.amax([1, 2], keepdim=True))
        assert_close(torch.compile(block, backend="eager", fullgraph=True)(x), y)
    assert torch.equal(block(x), y)


def test_automatic_takes_maps_on_the_cpu(monkeypatch):
    class Other(torch.Tensor):
        pass

    x = torch.empty(2, 3, 4, 5)
    types = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
    assert all(dispatch.uses_kernels(x.to(dtype)) for dtype in types)
    assert dispatch.uses_kernels(torch.nn.Parameter(x))
    assert dispatch.operators_for(x) is dispatch.cpu_operators()
    for refused in (x.int(), x.to(torch.complex64), x[:0], x.to("meta"), x.as_subclass(Other), None):
        assert not dispatch.uses_kernels(refused)
    with kernels.backend("torch"):
        assert not dispatch.uses_kernels(x)
    monkeypatch.setattr(dispatch, "MEASURED", ())  # as on any other device
    assert not dispatch.uses_kernels(x)


def test_what_triton_takes(with_triton):
    """By tensors that say they are on CUDA."""

    class OnCuda(torch.Tensor):
        is_cuda = True

    with kernels.backend("triton"):
        for dtype in dispatch.TYPES:
            assert dispatch.uses_kernels(torch.empty(2, 3, 4, 5, dtype=dtype).as_subclass(OnCuda))
        assert not dispatch.uses_kernels(torch.empty(0, 3, 4, 5).as_subclass(OnCuda))
        with pytest.raises(RuntimeError, match=r"or float64, got torch.int32"):
            dispatch.uses_kernels(torch.empty(2, 3, 4, 5, dtype=torch.int32).as_subclass(OnCuda))
        large = torch.empty(1, 1, 1, 1).expand(1, 2**16, 2**8, 2**7).as_subclass(OnCuda)
        with pytest.raises(RuntimeError, match=r"samples of fewer than 2\*\*31 elements, got 2147483648"):
            dispatch.uses_kernels(large)


def test_this_torch_has_what_kernels_rely_on(recwarn):
    private.are_missing.cache_clear()
    assert not private.are_missing() and not recwarn.list
    for name in private.NAMES:
        assert operator.attrgetter(name)(torch) is not None


@pytest.mark.parametrize("unit", ["block", "statistics", "norm"])
def test_automatic_really_takes_the_kernels(unit, monkeypatch):
    """Forward and backward, called eagerly on the CPU; where it falls back nothing else would tell."""
    called, operators = [], dispatch.cpu_operators()
    for name in {*OPERATORS, "sums"}:
        function = getattr(operators, name)
        monkeypatch.setattr(operators, name, lambda *a, f=function, n=name, **k: (called.append(n), f(*a, **k))[1])
    x = draw(2, 8, 5, 5).requires_grad_()
    if unit == "norm":
        module = tail_unit(8, dtype=torch.float32)
        module["block"].tail(x, draw(2, 8, 5, 5), norm=module["norm"]).sum().backward()
        assert called == OPERATORS
    elif unit == "block":
        SASEBlock(8)(x).sum().backward()
        assert called == ["reduce", "reduce", "gate", "sums", "map_backward"]
    else:
        reader.statistics_of(x, ["mean", "maximum"], [2, 3])[0].sum().backward()
        assert called == ["reduce", "map_backward"]
    assert x.grad is not None


@pytest.mark.parametrize("name", private.NAMES)
def test_one_warning_where_torch_lacks_what_kernels_rely_on(name, monkeypatch):
    block, x = SASEBlock(8).eval(), draw(2, 8, 5, 5)
    wanted = block(x)
    owner, _, last = name.rpartition(".")
    monkeypatch.delattr(operator.attrgetter(owner)(torch), last)
    private.are_missing.cache_clear()
    try:
        with pytest.warns(UserWarning, match=rf"has no torch\.{name}, .*by its definition, which is slower") as caught:
            assert dispatch.operators_for(x) is None
            assert_close(block(x), wanted)
        assert len(caught) == 1
    finally:
        private.are_missing.cache_clear()
