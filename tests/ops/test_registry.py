"""`create_op`, `list_ops`, `register_op`: names, arguments, and operations of one's own."""

import pytest
import torch
from inputs import draw
from torch import Tensor, nn

from sase_attn import Genotype, SASEBlock, create_op, genotypes, list_ops, register_op
from sase_attn.errors import UnknownNameError, unknown_name
from sase_attn.ops import OP_SETS, RELEASE_OPS, Excite, Op, get_op

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def restored(monkeypatch):
    """Undo what a test registers."""
    for op_set, ops in OP_SETS.items():
        monkeypatch.setitem(OP_SETS, op_set, dict(ops))


class Median(Op):
    def forward(self, x: Tensor) -> Tensor:
        return x.median(1, keepdim=True).values


class Half(Excite):
    def forward(self, m: Tensor) -> Tensor:
        return torch.full_like(m, 0.5)

    def zero_gate(self) -> float:
        return 0.5


class Plain(nn.Module):
    """Not derived from `Op`, which is allowed."""

    def __init__(self, channels, *, size=None, rd_ratio=1 / 16, device=None, dtype=None):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels, 1, 1, device=device, dtype=dtype))

    def forward(self, z: Tensor) -> Tensor:
        return torch.sigmoid(self.scale * z)


def test_names_in_the_papers_order():
    assert list_ops() == ["channel_squeeze", "channel_excite", "spatial_squeeze", "spatial_excite"]
    squeezes = ["gap", "gsop", "l2norm", "l4", "gap_gmp", "gap_std", "gap_skew"]
    excites = ["fc", "conv1d_k3", "conv1d_k5", "conv1d_k7", "conv1d_k3_x2", "conv1d_k3_x3", "affine"]
    assert list_ops("channel_squeeze")[:7] == list_ops("spatial_squeeze")[:7] == squeezes
    assert list_ops("channel_excite") == [*excites, "fc_sigmoid"]
    kernels = ["conv2d_k3", "conv2d_k5", "conv2d_k7", "conv2d_k3_x2", "sep_k3", "sep_k5", "affine"]
    assert list_ops("spatial_excite") == kernels
    assert {op_set: list(names) for op_set, names in RELEASE_OPS.items()} == {s: list_ops(s)[:7] for s in list_ops()}


@pytest.mark.parametrize(
    "call, message",
    [
        (
            lambda: create_op("channel_squeeze", "gapp", 8),
            "unknown channel_squeeze operation 'gapp'; did you mean gap or",
        ),
        (lambda: create_op("spatial_excite", "conv2d_3", 8), "did you mean conv2d_k3 or"),
        (
            lambda: create_op("chanel_squeeze", "gap", 8),
            "unknown operation set 'chanel_squeeze'; did you mean channel_sq",
        ),
        (lambda: get_op("channel_excite", "xyz"), "unknown channel_excite operation 'xyz'; known: fc, conv1d_k3, "),
        (lambda: list_ops("spatial"), "unknown operation set 'spatial'"),
        (lambda: register_op("spatial_squeze", "median", Median), "did you mean spatial_squeeze"),
    ],
)
def test_unknown_names_give_the_nearest(call, message):
    with pytest.raises(UnknownNameError) as error:
        call()
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert isinstance(error.value, ValueError)


@pytest.mark.parametrize("op_set, name", [(op_set, name) for op_set, ops in OP_SETS.items() for name in ops])
def test_sizes_that_are_none_are_refused_by_every_operation(op_set, name):
    with pytest.raises(ValueError, match="channels must be at least 1, got 0"):
        create_op(op_set, name, 0)
    for size in (0, (0, 3), (3, -1), (3,), (3, 4, 5), 2.5, "7"):
        with pytest.raises(ValueError, match="size must be a positive height and width, got"):
            create_op(op_set, name, 8, size=size)


def test_size_may_be_a_number_or_a_pair():
    shapes = [create_op("spatial_excite", "affine", 4, size=size).alpha.shape for size in (None, 5, (2, 3), [2, 3])]
    assert shapes == [(1, 7, 7), (1, 5, 5), (1, 2, 3), (1, 2, 3)]


def test_a_registered_operation_is_one_of_the_set():
    assert register_op("spatial_squeeze", "median", Median) is Median
    assert list_ops("spatial_squeeze")[-1] == "median"
    assert "median" not in RELEASE_OPS["spatial_squeeze"]
    assert isinstance(create_op("spatial_squeeze", "median", 8), Median)

    text = str(genotypes["sase"]).replace("spatial_squeeze_input:gap", "spatial_squeeze_input:median")
    genotype = Genotype.parse(text)
    assert genotype.spatial_squeeze_input == "median"
    assert Genotype.from_json(genotype.to_json()) == genotype
    block = SASEBlock(8, genotype)
    x = draw(2, 8, 5, 3).requires_grad_()
    block(x).sum().backward()
    assert x.grad.isfinite().all()
    space = dict.fromkeys(genotype.__dataclass_fields__, ("affine",)) | {
        "channel_squeeze": ["gap"],
        "spatial_squeeze_input": ["median"],
        "spatial_squeeze_gated": ["median"],
    }
    del space["residual"]
    assert Genotype.random(0, space).spatial_squeeze_gated == "median"


def test_an_excitation_may_or_may_not_start_as_a_constant():
    register_op("spatial_excite", "half", Half)
    register_op("channel_excite", "plain", Plain)
    genotype = Genotype.parse(str(genotypes["sase"]).replace("conv2d_k3_x2", "half"))
    assert SASEBlock(8, genotype).zero_gates() == 1.25
    genotype = Genotype.parse(str(genotypes["sase"]).replace("channel_excite:fc", "channel_excite:plain"))
    block = SASEBlock(8, genotype)
    block(draw(2, 8, 4, 4))
    with pytest.raises(TypeError, match=r"channel_excite Plain must derive from sase_attn\.ops\.Excite"):
        block.zero_gates()
    with pytest.raises(TypeError, match="Excite does not define zero_gate"):
        Excite(8).zero_gate()


def test_overwriting_is_explicit():
    with pytest.raises(ValueError, match=r"channel_excite already has an operation 'fc'; pass overwrite=True"):
        register_op("channel_excite", "fc", Plain)
    assert get_op("channel_excite", "fc") is not Plain
    register_op("channel_excite", "fc", Plain, overwrite=True)
    assert get_op("channel_excite", "fc") is Plain
    assert list_ops("channel_excite")[0] == "fc"


class NoSize(nn.Module):
    def __init__(self, channels, *, rd_ratio=1 / 16, device=None, dtype=None):
        super().__init__()


class NeedsMore(nn.Module):
    def __init__(self, channels, kernel, *, size=None, rd_ratio=1 / 16, device=None, dtype=None):
        super().__init__()


@pytest.mark.parametrize(
    "name, op, error, message",
    [
        (
            "no_size",
            NoSize,
            TypeError,
            r"NoSize must accept \(channels, \*, size=None, .*unexpected keyword argument 'size'",
        ),
        ("needs_more", NeedsMore, TypeError, r"NeedsMore must accept .*missing a required argument: 'kernel'"),
        ("instance", Plain(4), TypeError, r"expected a class derived from torch\.nn\.Module, got Plain\("),
        ("function", torch.sigmoid, TypeError, r"expected a class derived from torch\.nn\.Module, got <built-in"),
        ("no_module", dict, TypeError, r"expected a class derived from torch\.nn\.Module, got <class 'dict'>"),
        ("my-op", Plain, ValueError, "must be letters, digits and underscores, got 'my-op'"),
        ("", Plain, ValueError, "must be letters, digits and underscores, got ''"),
    ],
)
def test_what_is_refused_is_not_added(name, op, error, message):
    before = list_ops("channel_excite")
    with pytest.raises(error, match=message):
        register_op("channel_excite", name, op)
    assert list_ops("channel_excite") == before


def test_of_many_known_names_the_first_are_listed():
    message = str(unknown_name("model", "zzz", [f"a{i}" for i in range(1300)]))
    assert message.startswith("unknown model 'zzz'; known: a0, a1, ") and message.endswith(", a7 and 1,292 more")
    assert str(unknown_name("model", "zzz", "abc")) == "unknown model 'zzz'; known: a, b, c"
    assert str(unknown_name("model", "sas", ["sase", "sase"])) == "unknown model 'sas'; did you mean sase?"
