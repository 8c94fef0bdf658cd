"""The kernels in Triton compile to a GPU's machine code where there is no GPU, and their tiles cover a map."""

import pytest

from sase_attn.kernels import layout, spec

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
