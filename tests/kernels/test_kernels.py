"""Kernels: the interpreted suite in a process of its own, compilation without a GPU, and which calls they take."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from checkout import ROOT
from inputs import draw
from tolerances import assert_close

from sase_attn import SASEBlock, kernels
from sase_attn.errors import UnknownNameError
from sase_attn.kernels import dispatch, layout, reader, spec

pytestmark = pytest.mark.usefixtures("one_thread")
interpreted = "TRITON_INTERPRET" in os.environ


@pytest.mark.parametrize("marks", ["not slow", pytest.param("slow", marks=pytest.mark.slow)])
def test_interpreted_suite(marks):
    """See `kernel_suite.py`."""
    triton = pytest.importorskip("triton", minversion="3.7", reason="earlier ones cannot interpret with today's NumPy")
    assert triton is not None
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-n",
        "0",
        "-m",
        marks,
        str(Path(__file__).with_name("kernel_suite.py")),
    ]
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(ROOT)}
    result = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-5000:] + result.stderr[-2000:]
    assert " passed" in result.stdout


EVERY = sum(1 << i for i in range(len(spec.COMPUTED)))
FLAGS = [
    ("reduce_kernel", dict(UNWEIGHTED=3, WEIGHTED=0, CUT=False, OF_CHANNELS=True)),
    ("reduce_kernel", dict(UNWEIGHTED=1, WEIGHTED=16, CUT=False)),
    pytest.param(
        "reduce_kernel", dict(UNWEIGHTED=3, WEIGHTED=0, CUT=True, OF_CHANNELS=True, SIGN=True), marks=pytest.mark.slow
    ),
    ("reduce_kernel", dict(UNWEIGHTED=1, WEIGHTED=16, CUT=False, SIGN=True, AFFINE=True)),
    pytest.param("reduce_kernel", dict(UNWEIGHTED=EVERY, WEIGHTED=EVERY, CUT=True), marks=pytest.mark.slow),
    ("merge_kernel", dict(UNWEIGHTED=EVERY, WEIGHTED=EVERY)),
    ("map_backward_kernel", dict(GATE=True, SPACE=3, UNWEIGHTED=1, WEIGHTED=16)),
    ("map_backward_kernel", dict(GATE=False, SPACE=EVERY, UNWEIGHTED=0, WEIGHTED=0)),
    pytest.param("map_backward_kernel", dict(GATE=True, SPACE=1, UNWEIGHTED=1, WEIGHTED=0), marks=pytest.mark.slow),
    pytest.param(
        "map_backward_kernel", dict(GATE=True, SPACE=EVERY, UNWEIGHTED=EVERY, WEIGHTED=EVERY), marks=pytest.mark.slow
    ),
    ("map_backward_kernel", dict(GATE=True, SPACE=3, UNWEIGHTED=1, WEIGHTED=16, SIGN=True, AFFINE=True)),
    ("channels_backward_kernel", dict(UNWEIGHTED=0, WEIGHTED=16)),
    ("channels_backward_kernel", dict(UNWEIGHTED=1, WEIGHTED=16, SIGN=True, AFFINE=True)),
    pytest.param("channels_backward_kernel", dict(UNWEIGHTED=0, WEIGHTED=EVERY), marks=pytest.mark.slow),
    pytest.param("channels_backward_kernel", dict(UNWEIGHTED=EVERY, WEIGHTED=0, AFFINE=True), marks=pytest.mark.slow),
    ("gate_kernel", dict(SHORTCUT=True, RELU=True)),
    ("gate_kernel", dict(SHORTCUT=True, RELU=True, SIGN=True, AFFINE=True)),
    ("sums_kernel", dict(RELU=True)),
    ("sums_kernel", dict(RELU=True, SIGN=True, AFFINE=True, KEEPS_CHANNELS=True)),
    ("sums_kernel", dict(RELU=True, AFFINE=True)),
]
SWITCHES = dict.fromkeys(("SIGN", "AFFINE", "OF_CHANNELS", "KEEPS_CHANNELS"), False)


@pytest.mark.skipif(interpreted, reason="kernels are interpreted in this process")
@pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION")
@pytest.mark.parametrize(
    "ones", [("stride_r", "stride_p"), ("stride_k", "stride_c", "C", "P", "K", "R", "pieces", "rows")]
)
@pytest.mark.parametrize("name, flags", FLAGS)
def test_compiles_for_a_gpu(name, flags, ones, tmp_path, monkeypatch):
    """To machine code of an H100, for bfloat16; Triton takes arguments equal to 1 as constants."""
    pytest.importorskip("triton")
    import triton
    import triton.language as tl
    from triton.backends.compiler import GPUTarget

    from sase_attn.kernels.triton import launches

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    kernel = getattr(launches, name)
    known = {**SWITCHES, **flags, "ACC": tl.float32} | {arg: 1 for arg in ones}
    known |= {"BLOCK_K": 32, "BLOCK_R": 32, "BLOCK_C": 32, "BLOCK_P": 32, "BLOCK": 64}
    maps = {"x", "y", "g", "dx", "shortcut", "masked"}
    numbers = {"values", "saved", "state", "grads", "weight", "sums", "channel", "position", "kept", "walked"}
    numbers |= {"space_values", "space_saved", "space_grads"}
    numbers |= {"sign", "scale_shift", "kept_gate", "walked_gate", "slopes"}
    constants = {(i,): known[arg] for i, arg in enumerate(kernel.arg_names) if arg in known}
    kinds = {**dict.fromkeys(maps, "*bf16"), **dict.fromkeys(numbers, "*fp32"), **dict.fromkeys(known, "constexpr")}
    signature = {arg: kinds.get(arg, "i32") for arg in kernel.arg_names}
    source = triton.compiler.ASTSource(fn=kernel, signature=signature, constexprs=constants)
    assert triton.compile(source, target=GPUTarget("cuda", 90, 32)).asm["cubin"]


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


@pytest.mark.skipif(interpreted, reason="kernels take CPU tensors in this process")
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


def test_tiles_and_pieces_cover_an_axis():
    for inner in (1, 3, 49, 64, 129, 3136, 5000):
        for outer in (1, 5, 2048):
            along, across = layout.tile(inner, outer)
            assert along & (along - 1) == across & (across - 1) == 0
            assert along * across <= layout.TILE
    assert layout.tile(3136, 256) == (128, 16)
    for length, block, programs in [(1, 16, 1), (49, 16, 1), (3136, 128, 4), (3136, 128, 10**6), (1000, 64, 100)]:
        pieces, chunk = layout.cut(length, block, programs)
        assert chunk % block == 0
        assert (pieces - 1) * chunk < length <= pieces * chunk
        assert programs * pieces <= max(layout.PROGRAMS, programs)
