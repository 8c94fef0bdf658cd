"""One walk over all attentions of the literature: whatever is in `ATTENTIONS` is held to all of it."""

import copy
import inspect
import pickle
import re
from collections.abc import Callable

import pytest
import torch
from inputs import draw, randomise
from pairwise import case, pairwise, rows_of
from tolerances import TOLERANCES, assert_close
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from sase_attn.attentions import ATTENTIONS, Attention, create_attention
from sase_attn.attentions.att_darts import CHOICES
from sase_attn.attentions.cbam import CBAM

pytestmark = [pytest.mark.filterwarnings("error"), pytest.mark.usefixtures("one_thread")]

LITERATURE = [name for name in ATTENTIONS if name != "sase"]  # that one has tests of its own
OPTIONS = [
    *((name, {}) for name in LITERATURE),
    ("se", {"bias": False, "rd_channels": 3}),
    ("eca", {"kernel_size": 7}),
    ("cbam", {"kernel_size": 3, "rd_ratio": 0.5}),
    ("gct_gaussian", {"learnable": False}),
    ("gsop", {"stride": 2, "width": 5}),
    ("ean", {"groups": 3}),
    ("ge_theta_minus", {"extent": 2}),
    ("ge_theta", {"extent": 4}),
    ("ge_theta_plus", {"extent": 2}),
    *(("att_darts", {"choice": choice}) for choice in [*CHOICES, "mixed"]),
]
IDS = [f"{name}-{'-'.join(map(str, options.values()))}" for name, options in OPTIONS]
every_attention = pytest.mark.parametrize("name, options", OPTIONS, ids=IDS)
HALVES = [torch.float16, torch.bfloat16]


def run(module: nn.Module, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Output, and gradients with respect to the input and to the parameters that are used."""
    x = x.detach().requires_grad_()
    y = module(x)
    grads = torch.autograd.grad(y, [x, *module.parameters()], draw(*y.shape, seed=9).to(y.dtype), allow_unused=True)
    return y.detach(), [grad for grad in grads if grad is not None]


DTYPES_AND_SHAPES = pairwise(OPTIONS, TOLERANCES, [(2, 24, 5, 3), (2, 24, 1, 7), (1, 16, 9, 8)])


@every_attention
def test_shape_dtype_and_value_in_every_dtype(name, options):
    for dtype, shape in rows_of((name, options), DTYPES_AND_SHAPES):
        with case(dtype, shape):
            module = randomise(create_attention(name, shape[1], dtype=dtype, **options)).eval()
            x = draw(*shape, dtype=dtype)
            y = module(x)
            assert y.shape == x.shape and y.dtype == dtype
            # Chains of layers in half precision round at each.
            chained = {"autola", "bam", "glam", "psa", "att_darts", "gc"}
            limit = TOLERANCES[dtype] * (4 if name in chained and dtype in HALVES else 1)
            assert_close(y, copy.deepcopy(module).double()(x.double()), tolerance=limit)


@every_attention
def test_construction_writes_every_value_and_honours_dtype(name, options):
    torch.use_deterministic_algorithms(True)  # fills what torch.empty gives with NaN
    try:
        module = create_attention(name, 24, dtype=torch.float16, **options)
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(value.isfinite().all() for value in module.state_dict().values())
    assert {parameter.dtype for parameter in module.parameters()} <= {torch.float16}
    assert all(p.is_meta for p in create_attention(name, 24, device="meta", **options).state_dict().values())


@every_attention
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_every_parameter_receives_gradient(name, options, training):
    module = randomise(create_attention(name, 32, **options), seed=1).train(training)
    if name in ("cbam", "glam", "gsop"):  # sigmoids of many positive terms are flat
        for key, value in module.named_parameters():
            value.data *= 1 if "norm" in key else 0.1
    x = draw(4, 32, 9, 8).requires_grad_()
    module(x).square().sum().backward()
    for key, value in [("input", x), *module.named_parameters()]:
        assert value.grad is not None, f"no gradient for {key}"
        assert value.grad.isfinite().all(), f"gradient of {key} is not finite"
        assert value.grad.any(), f"gradient of {key} is zero"


def with_dead_parts() -> Tensor:
    x = draw(2, 8, 5, 3)
    x[:, 0] = 0
    x[:, :, 0] = 0
    return x


EDGE_CASES: dict[str, Callable[[], Tensor]] = {
    "all zero": lambda: torch.zeros(2, 8, 5, 3),
    "a dead channel and a dead row": with_dead_parts,
    "constant": lambda: torch.full((2, 8, 5, 3), 3.7),
    "1x1": lambda: draw(2, 8, 1, 1),
    "batch of one": lambda: draw(1, 8, 5, 3),
    "4 channels": lambda: draw(2, 4, 5, 3),
    "one position": lambda: draw(1, 8, 1, 1),
    "one dead position": lambda: torch.zeros(1, 8, 1, 1),
}


EDGES_AND_MODES = pairwise(OPTIONS, EDGE_CASES, ["eval", "train"], ["as made", "random"])


@every_attention
def test_edge_cases_are_finite(name, options):
    for edge, mode, values in rows_of((name, options), EDGES_AND_MODES):
        with case(edge, mode, values):
            x = EDGE_CASES[edge]()
            module = create_attention(name, x.shape[1], **options).train(mode == "train")
            y, grads = run(module if values == "as made" else randomise(module), x)
            assert y.shape == x.shape
            assert all(value.isfinite().all() for value in [y, *grads, *module.state_dict().values()])


@every_attention
def test_half_precision_under_autocast(name, options):
    for dtype in HALVES:
        with case(dtype):
            module = create_attention(name, 8, **options)
            x = draw(4, 8, 7, 5, dtype=torch.float64)
            # These compute in the input's type, and glam multiplies x by itself: at 1000 gradients exceed float16.
            limited = name in ("se", "tiled_se", "eca", "gc", "scse") or options.get("choice") == "se"
            x = (x / x.abs().max() * (3 if name == "glam" else 30 if limited else 1000)).to(dtype)
            with torch.autocast("cpu", dtype):
                y, grads = run(module, x)
            assert y.isfinite().all() and all(grad.isfinite().all() for grad in grads)
            assert y.dtype == dtype


@every_attention
def test_memory_format_strides_copies_and_state(name, options):
    module = randomise(create_attention(name, 24, **options)).eval()
    x = draw(2, 24, 6, 5)
    y = module(x)
    assert_close(module(x.to(memory_format=torch.channels_last)), y)
    wide = draw(2, 24, 6, 10)
    assert_close(module(wide[..., ::2]), module(wide[..., ::2].contiguous()))
    assert torch.equal(x, draw(2, 24, 6, 5)), "the input was changed"
    other = create_attention(name, 24, **options).eval()
    other.load_state_dict(module.state_dict())
    assert torch.equal(other(x), y)
    assert torch.equal(pickle.loads(pickle.dumps(module))(x), y)


@every_attention
def test_zero_gates_give_a_constant_that_learns(name, options):
    module = create_attention(name, 32, **options)
    assert isinstance(module, Attention)
    if type(module).zero_gates is Attention.zero_gates or options.get("choice") == "mixed":
        reason = f"{type(module).__name__} cannot start as a constant: "
        with pytest.raises(TypeError, match=re.escape(reason)) as error:
            module.zero_gates()
        assert str(error.value) != reason + Attention.never_constant
        return
    randomise(module)
    gain = module.zero_gates()
    assert module.zero_gates() == gain != 0
    x = draw(4, 32, 9, 8)
    for training in (False, True):
        assert_close(module.train(training)(x), gain * x)
    if not list(module.parameters()):
        return
    optimizer = torch.optim.SGD(module.parameters(), lr=0.05)
    target = draw(4, 32, 9, 8, seed=1)
    grads: dict[str, Tensor] = {}
    for _ in range(3):
        module.zero_grad()
        ((module(x) - target) ** 2).mean().backward()
        grads = {key: value.grad for key, value in module.named_parameters()}
        optimizer.step()
    dead = [key for key, grad in grads.items() if grad is None or not grad.any()]
    assert not dead, f"without gradient in the third step: {dead}"


@pytest.mark.parametrize("name", LITERATURE)
def test_no_weight_decay_names_parameters(name):
    module = create_attention(name, 16)
    assert module.no_weight_decay() <= dict(module.named_parameters()).keys()


def test_what_the_papers_do_not_decay():
    assert create_attention("srm", 8).no_weight_decay() == {"weight", "norm.weight", "norm.bias"}
    assert create_attention("gct_gated", 8).no_weight_decay() == {"beta"}


# What the formulas in the docstrings are written in, at C = 64 and a map of 7×9.
SYMBOLS = {"C": 64, "N": 63, "G": 16, "d": 128, "q": 16, "branches": ((3, 1), (5, 4), (7, 8), (9, 16))}
OWN = {
    "se": {"h": 4}, "tiled_se": {"h": 4, "tiles": 1}, "cbam": {"h": 4, "k": 7}, "bam": {"h": 4}, "gc": {"h": 4},
    "scse": {"h": 32}, "psa": {"h": 1},
    "spatial_sase": {"h": 4, "c": 16}, "spatial_sase_literal": {"h": 4, "c": 16},
    "glam": {"h": 16, "k": 3}, "ge_theta": {"s": 7}, "ge_theta_plus": {"s": 7, "h": 4}, "double_attention": {"h": 16},
    "eca": {"k": 3}, "mca_e": {"k": 3}, "mca_s": {"k": 7},
}  # fmt: skip


@pytest.mark.parametrize("name", [name for name in LITERATURE if name != "att_darts"])
def test_docstring_gives_parameters_macs_and_place(name):
    text = " ".join(inspect.getdoc(ATTENTIONS[name]).split())
    found = re.search(r"Parameters: `([^`]+)`.*?; MACs:? `([^`]+)`", text)
    assert found, text
    parameters, macs = (eval(formula, SYMBOLS | OWN.get(name, {})) for formula in found.groups())
    module = create_attention(name, 64).eval()
    assert parameters == sum(p.numel() for p in module.parameters())
    with FlopCounterMode(display=False) as counter:
        module(draw(1, 64, 7, 9))
    assert 2 * macs == counter.get_total_flops()
    assert "Goes " in text or "Takes the place of" in text or name == "mca_s"


@pytest.mark.parametrize("name", LITERATURE)
def test_wrong_input_is_refused(name):
    module = create_attention(name, 16)
    for shape in [(2, 8, 5, 5), (16, 5, 5)]:
        with pytest.raises(ValueError, match=r"expected an input of shape \(B, 16, H, W\)"):
            module(torch.zeros(shape))
    with pytest.raises(ValueError, match="channels must be at least 1, got 0"):
        create_attention(name, 0)


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("eca", {"kernel_size": 4}, "kernel_size must be odd, got 4"),
        ("cbam", {"kernel_size": 2}, "kernel_size must be odd, got 2"),
        ("mca_e", {"kernel_size": 2}, "kernel_size must be odd, got 2"),
        ("glam", {"kernel_size": 2}, "kernel_size must be odd, got 2"),
        ("glam", {"rd_channels": 0}, "rd_channels must be at least 1, got 0"),
        ("cbam", {"rd_ratio": 0.0}, "rd_ratio must be above 0, got 0.0"),
        ("bam", {"rd_channels": 0}, "rd_channels must be at least 1, got 0"),
        ("bam", {"dilation": 0}, "dilation must be at least 1, got 0"),
        ("gsop", {"width": 0}, "width must be at least 1, got 0"),
        ("gsop", {"stride": 0}, "stride must be at least 1, got 0"),
        ("ean", {"groups": 0}, "groups must be at least 1, got 0"),
        ("ge_theta_minus", {"extent": 0}, "extent must be at least 1, got 0"),
        ("ge_theta", {"extent": 6}, "extent must be None or a power of two from 2, got 6"),
        ("ge_theta", {"size": 0}, "size must be at least 1, got 0"),
        ("psa", {"kernels": (2, 3, 5, 7)}, "each of kernels must be odd, got 2"),
        ("att_darts", {"choice": "cbma"}, "unknown choice of Att-DARTS 'cbma'; did you mean cbam"),
    ],
)
def test_wrong_options_are_refused(name, options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        create_attention(name, 16, **options)


@pytest.mark.parametrize("name", ["autola", "psa"])
def test_channels_must_be_a_multiple_of_4(name):
    with pytest.raises(ValueError, match="channels must be a multiple of 4, got 18"):
        create_attention(name, 18)


@pytest.mark.parametrize("name", ["psa", "spatial_sase", "spatial_sase_literal"])
def test_strides(name):
    for (height, width), stride in (((9, 8), 2), ((7, 7), 2), ((1, 1), 2), ((8, 7), 3)):
        y = create_attention(name, 16, stride=stride)(draw(2, 16, height, width))
        assert y.shape == (2, 16, -(-height // stride), -(-width // stride))


@pytest.mark.parametrize("name", ATTENTIONS)
def test_norms_move_by_a_tenth_but_for_cbams(name):
    for owner in create_attention(name, channels=16).modules():
        norms = [part for part in owner.children() if isinstance(part, nn.BatchNorm2d)]
        assert {norm.momentum for norm in norms} <= {0.01 if isinstance(owner, CBAM) else 0.1}


def test_running_statistics_of_cbam_move_by_a_hundredth():
    module = create_attention("cbam", channels=8).train()
    seen = []
    module.norm.register_forward_hook(lambda norm, inputs, output: seen.append(inputs[0]))
    module(draw(4, 8, 6, 6))
    assert_close(module.norm.running_mean, 0.01 * seen[0].mean((0, 2, 3)))
    assert_close(module.norm.running_var, 0.99 + 0.01 * seen[0].var((0, 2, 3)))
