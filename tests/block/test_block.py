"""`SASEBlock`: gradients, types, layouts, edge cases, arguments, constant start."""

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
from inputs import draw, randomise
from tolerances import TOLERANCES, assert_close
from torch import Tensor, nn

from sase_attn import Genotype, SASEBlock, genotypes
from sase_attn.errors import UnknownNameError

pytestmark = [pytest.mark.filterwarnings("error"), pytest.mark.usefixtures("one_thread")]
DOUBLE = torch.float64
FLOAT16_MAX = torch.finfo(torch.float16).max
SKEW = Genotype("gap_skew", "fc_sigmoid", "fc", "gap_skew", "gap_skew", "conv2d_k3_x2")
SECOND_ORDER = Genotype("gsop", "conv1d_k3_x3", "fc", "gsop", "l2norm", "sep_k5")

published = pytest.mark.parametrize("genotype", genotypes)
every_kind = pytest.mark.parametrize(
    "genotype", [*genotypes.values(), SKEW, SECOND_ORDER], ids=[*genotypes, "skew", "second order"]
)
both_modes = pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])


def gradients(block: nn.Module, x: Tensor, autocast: torch.dtype | None = None) -> tuple[Tensor, dict[str, Tensor]]:
    """Output, under autocast to a type if one is given, and gradients of a random projection of it, by name."""
    x = x.detach().requires_grad_()
    with torch.autocast("cpu", autocast, enabled=autocast is not None):
        y = block(x)
    values = {"input": x, **dict(block.named_parameters())}
    cotangent = draw(*y.shape, seed=9).to(y.dtype)
    return y.detach(), dict(zip(values, torch.autograd.grad(y, list(values.values()), cotangent), strict=True))


@published
@both_modes
def test_gradients_are_those_of_the_values(genotype, training):
    block = randomise(SASEBlock(4, genotype, rd_channels=2, dtype=DOUBLE)).train(training)
    names, parameters = zip(*block.named_parameters(), strict=True)

    def call(x: Tensor, *values: Tensor) -> Tensor:
        return torch.func.functional_call(block, dict(zip(names, values, strict=True)), (x,))

    assert torch.autograd.gradcheck(call, (draw(2, 4, 3, 2, dtype=DOUBLE).requires_grad_(), *parameters))


@every_kind
@both_modes
def test_memory_format_is_the_inputs(genotype, training):
    block = SASEBlock(8, genotype).train(training)
    x = draw(2, 8, 5, 3)
    plain, last = (block(x.contiguous(memory_format=f)) for f in (torch.contiguous_format, torch.channels_last))
    assert plain.is_contiguous()
    assert last.is_contiguous(memory_format=torch.channels_last)
    assert_close(last, plain)


@every_kind
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
def test_type_is_the_inputs(genotype, dtype):
    """Whether the block is stored in the same type or in float32."""
    x = draw(2, 8, 5, 3, dtype=dtype)
    for stored in {dtype, torch.float32}:
        block = randomise(SASEBlock(8, genotype, dtype=stored)).eval()
        y = block(x)
        assert y.dtype == dtype
        assert_close(y, copy.deepcopy(block).double()(x.double()))
        if dtype in (torch.float16, torch.bfloat16) and stored == torch.float32:
            assert torch.equal(y, block(x.float()).to(dtype))  # rounded once, at the end
        y, grads = gradients(block.train(), x)
        assert y.dtype == grads["input"].dtype == dtype
        assert all(value.isfinite().all() for value in [y, *grads.values()])


def with_dead_parts() -> Tensor:
    x = draw(2, 6, 5, 3)
    x[:, 0] = 0
    x[:, :, 0] = 0
    return x


EDGE_CASES: dict[str, Callable[[], Tensor]] = {
    "all zero": lambda: torch.zeros(2, 6, 5, 3),
    "a dead channel and a dead row": with_dead_parts,
    "constant": lambda: torch.full((2, 6, 5, 3), 3.7),
    "1x1, batch of one": lambda: draw(1, 6, 1, 1),
    "1x1": lambda: draw(2, 6, 1, 1),
    "one channel": lambda: draw(2, 1, 5, 3),
    "one zero": lambda: torch.zeros(1, 1, 1, 1),
}


@every_kind
@both_modes
@pytest.mark.parametrize("case", EDGE_CASES)
def test_edge_cases_are_finite(genotype, training, case):
    x = EDGE_CASES[case]()
    block = SASEBlock(x.shape[1], genotype).train(training)
    y, grads = gradients(block, x)
    assert y.shape == x.shape
    assert all(value.isfinite().all() for value in [y, *grads.values(), *block.state_dict().values()])


def test_a_single_value_in_training_leaves_the_running_statistics():
    block = SASEBlock(6)
    block(draw(1, 6, 1, 1))
    assert (block.norm.running_mean.item(), block.norm.running_var.item()) == (0, 1)
    block(draw(2, 6, 1, 1))
    assert block.norm.running_mean.item() != 0
    assert block.norm.num_batches_tracked == 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_running_statistics_of_a_block_stored_in_half_precision(dtype):
    half, single = SASEBlock(8, dtype=dtype), SASEBlock(8)
    single.load_state_dict(half.state_dict())
    for block in (half, single):
        block(draw(2, 8, 5, 3, dtype=dtype))
    assert half.norm.running_mean.dtype == dtype
    assert half.norm.num_batches_tracked == 1
    for name in ("running_mean", "running_var"):
        assert_close(getattr(half.norm, name), getattr(single.norm, name))
    assert single.norm.running_mean != 0


@published
@both_modes
def test_float16_up_to_1000_wherever_the_value_fits(genotype, training):
    """The ungated FC of "sase" takes some values beyond what float16 holds: those, and only those, may be infinite."""
    overflowed = 0
    for seed in range(10):
        torch.manual_seed(seed)
        block = SASEBlock(64, genotype).train(training)
        x = draw(2, 64, 7, 7, seed=seed, dtype=DOUBLE)
        x = (x / x.abs().max() * 1000).half()
        exact = copy.deepcopy(block).double()(x.double())
        y = block(x)
        fits = exact.abs() < FLOAT16_MAX
        overflowed += (~fits).any().item()
        assert not y.isnan().any()
        assert y[fits].isfinite().all()
        assert_close(y[fits], exact[fits])
    assert overflowed == 0 or genotype == "sase"


@every_kind
@both_modes
@pytest.mark.parametrize("scale", [1.0, 100.0])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_autocast_does_not_change_the_block(genotype, training, scale, dtype):
    """Gates stay in float32: a third moment of values around 100 does not fit float16."""
    torch.manual_seed(0)
    block = SASEBlock(16, genotype).train(training)
    for x in (draw(2, 16, 5, 3) * scale, (draw(2, 16, 5, 3) * scale).to(dtype)):
        expected, expected_grads = gradients(copy.deepcopy(block), x)
        y, grads = gradients(copy.deepcopy(block), x, autocast=dtype)
        assert y.dtype == x.dtype
        assert y.isfinite().all()
        assert_close(y, expected)
        for name, grad in grads.items():
            # The input's own type may be too narrow for its gradient, with autocast as without.
            assert not grad.isnan().any()
            fits = expected_grads[name].isfinite()
            assert torch.equal(grad.isfinite(), fits)
            assert_close(grad[fits], expected_grads[name][fits])


@pytest.mark.parametrize("channels", [64, 256, 2048])
def test_parameter_count_of_the_searched_block(channels):
    block = SASEBlock(channels, "sase", device=torch.device("meta"))
    assert sum(parameter.numel() for parameter in block.parameters()) == channels**2 // 8 + 2 * channels + 24


@pytest.mark.parametrize(
    "channels, arguments, hidden",
    [
        (8, {}, 1),
        (256, {}, 16),
        (8, {"rd_ratio": 1.0}, 8),  # EfficientNet's builder tries this to see what an attention accepts
        (64, {"rd_ratio": 0.25, "act_layer": nn.SiLU}, 16),
        (10, {"rd_ratio": 0.3}, 3),
        (49, {"rd_channels": 13}, 13),
        (64, {"rd_channels": 12, "rd_ratio": 0.5, "rd_divisor": 8}, 12),
        (64, {"rd_divisor": 8}, 8),
        (200, {"rd_divisor": 8}, 16),
        (200, {"rd_divisor": 1}, 12),
        (576, {"rd_divisor": 16}, 32),  # 36 to the nearest multiple, as timm's SEModule rounds
    ],
)
def test_width_arguments(channels, arguments, hidden):
    block = SASEBlock(channels, **arguments)
    assert block.channel_excite.fc1.weight.shape == (hidden, channels, 1, 1)
    assert block(draw(2, channels, 4, 4)).shape == (2, channels, 4, 4)


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: SASEBlock(8)(draw(8, 4, 4)), ValueError, "expected an input of shape (B, 8, H, W), got (8, 4, 4)"),
        (
            lambda: SASEBlock(8)(draw(2, 7, 4, 4)),
            ValueError,
            "expected an input of shape (B, 8, H, W), got (2, 7, 4, 4)",
        ),
        (lambda: SASEBlock(8)(draw(2, 8)), ValueError, "expected an input of shape (B, 8, H, W), got (2, 8)"),
        (lambda: SASEBlock(0), ValueError, "channels must be at least 1, got 0"),
        (lambda: SASEBlock(8, rd_channels=0), ValueError, "rd_channels must be at least 1, got 0"),
        (lambda: SASEBlock(8, size=(7, 0)), ValueError, "size must be a positive height and width, got (7, 0)"),
        (lambda: SASEBlock(8, "sasse"), UnknownNameError, "unknown genotype 'sasse'; did you mean sase or sase_paper?"),
        (
            lambda: SASEBlock(8, None),
            TypeError,
            "genotype must be a Genotype, a published name or an inline string, got None",
        ),
    ],
)
def test_wrong_arguments_say_what_was_wanted_and_what_came(call, error, message):
    with pytest.raises(error) as raised:
        call()
    assert str(raised.value) == message


def test_a_genotype_may_be_given_in_three_ways():
    blocks = [
        SASEBlock(8, genotype) for genotype in ("sase_paper", genotypes["sase_paper"], str(genotypes["sase_paper"]))
    ]
    assert [block.genotype for block in blocks] == [genotypes["sase_paper"]] * 3
    assert SASEBlock(8).genotype == genotypes["sase"]
    assert str(genotypes["sase"]) in repr(SASEBlock(8))


@every_kind
def test_copies_are_the_same(genotype):
    block = randomise(SASEBlock(8, genotype, size=(5, 4))).eval()
    x = draw(2, 8, 5, 3)
    loaded = SASEBlock(8, genotype, size=(5, 4)).eval()
    loaded.load_state_dict(block.state_dict())
    for twin in (copy.deepcopy(block), pickle.loads(pickle.dumps(block)), loaded):
        assert torch.equal(twin(x), block(x))


def test_conversion_to_synchronised_batch_norm():
    block = randomise(SASEBlock(8)).eval()
    x = draw(2, 8, 5, 3)
    y = block(x)
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(block)
    assert isinstance(converted.norm, nn.SyncBatchNorm)
    assert torch.equal(converted(x), y)
