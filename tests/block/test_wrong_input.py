"""Whatever takes maps refuses what is none, in our words, and takes an empty batch; arguments are checked."""

import inspect
import re

import numpy as np
import pytest
import torch
from inputs import OPS, draw, input_shape, output_shape
from torch import Tensor, nn

from sase_attn import SASEBlock, create_op
from sase_attn.attentions import ATTENTIONS, create_attention
from sase_attn.attentions.registry import get_attention
from sase_attn.errors import UnknownNameError
from sase_attn.fusion import fuse
from sase_attn.ops import get_op, list_ops
from sase_attn.search import SearchSpace

pytestmark = [pytest.mark.filterwarnings("error"), pytest.mark.usefixtures("one_thread")]
C = 16
# What is called: how it is made, and the shapes of what it takes and gives for a map (B, 16, H, W).
CALLED = {
    **{f"{s}-{n}": (lambda s=s, n=n: create_op(s, n, C), s) for s, n in OPS},
    **{name: (lambda name=name: create_attention(name, C), "") for name in ATTENTIONS},
    "sase_paper": (lambda: SASEBlock(C, "sase_paper"), ""),
    "att_darts-mixed": (lambda: create_attention("att_darts", C, choice="mixed"), ""),
    "att_darts-identity": (lambda: create_attention("att_darts", C, choice="identity"), ""),
    "search-release": (lambda: SearchSpace.get("release").block(C), ""),
    "search-paper": (lambda: SearchSpace.get("paper").block(C), ""),
}
TYPE = "expected an input of type float16, bfloat16, float32 or float64, got torch."


def shapes(op_set: str, *shape: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return (input_shape(op_set, *shape), output_shape(op_set, *shape)) if op_set else (shape, shape)


def wrong(op_set: str) -> dict[str, Tensor]:
    """Everything that is no map, and no value a channel, by what the message says."""
    good, _ = shapes(op_set, 2, C, 4, 3)
    wanted = "(B, 16, 1, 1)" if op_set == "channel_excite" else f"(B, {good[1]}, H, W)"
    sizes = [good[1:], (1, *good), good[:2], (2, good[1] + 1, *good[2:]), (2, 2 * good[1], *good[2:])]
    sizes += [(2, good[1], 0, good[3]), (2, good[1], good[2], 0), (2, 0, *good[2:]), ()]
    sizes += [(2, 16, 2, 1), (2, 16, 1, 2)] if op_set == "channel_excite" else []
    found = {}
    for size in sizes:
        between = " with H and W at least 1" if len(size) == 4 and size[1] == good[1] and 0 in size[2:] else ""
        between *= op_set != "channel_excite"
        listed = ", ".join(map(str, size))
        found[f"expected an input of shape {wanted}{between}, got ({listed})"] = torch.zeros(size)
    for dtype in (torch.int64, torch.uint8, torch.bool, torch.complex64, torch.float8_e4m3fn):
        found[f"{TYPE}{str(dtype).removeprefix('torch.')}"] = torch.zeros(good).to(dtype)
    return found


@pytest.mark.parametrize("name", CALLED)
def test_what_is_no_map_is_refused_and_moves_nothing(name):
    make, op_set = CALLED[name]
    module = make().train()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    for message, x in wrong(op_set).items():
        with pytest.raises(ValueError, match=re.escape(message)) as raised:
            module(x)
        assert str(raised.value) == message
    for x in (np.zeros((2, 16, 4, 3), "float32"), [1.0], None):
        with pytest.raises(TypeError, match=f"expected a tensor, got {type(x).__name__}"):
            module(x)
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())


@pytest.mark.parametrize("name", CALLED)
def test_an_empty_batch_gives_an_empty_map_and_moves_nothing(name):
    make, op_set = CALLED[name]
    size, wanted = shapes(op_set, 0, C, 4, 3)
    for training in (False, True):
        module = make().train(training)
        before = {key: value.clone() for key, value in module.state_dict().items()}
        x = torch.zeros(size, requires_grad=True)
        y = module(x)
        assert y.shape == wanted
        y.sum().backward()
        assert x.grad is not None and not any(p.grad is not None and p.grad.any() for p in module.parameters())
        assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())


def test_the_tails_of_a_fused_network_check_their_maps_too():
    import timm

    for name in ("se_resnet20", "eca_resnet20", "sase_resnet20"):
        model = timm.create_model(name, layers=(1, 1, 1)).eval()
        fuse(model)
        assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 10)


NO_NUMBER = "a whole number"
WRONG_NUMBERS = {0: "at least 1", -1: "at least 1", 1.5: NO_NUMBER, "8": NO_NUMBER, True: NO_NUMBER}
WRONG_RATIOS = {0.0: "above 0", -1: "above 0", "1": "a number", float("nan"): "a number", float("inf"): "a number"}
CLASSES = {**{f"{s}-{n}": get_op(s, n) for s, n in OPS}, **{name: get_attention(name) for name in ATTENTIONS}}


@pytest.mark.parametrize("name", CLASSES)
def test_arguments_are_checked_by_type_and_range(name):
    build = CLASSES[name]
    for value, words in (WRONG_NUMBERS | {None: NO_NUMBER}).items():
        with pytest.raises(ValueError, match=f"channels must be {words}, got {re.escape(repr(value))}"):
            build(value)
    taken = inspect.signature(build).parameters
    wholes = {"rd_channels", "rd_divisor", "kernel_size", "groups", "extent", "stride", "width", "dilation"}
    for argument in (taken.keys() & wholes) - {"groups" * (name == "psa")}:
        for value, words in WRONG_NUMBERS.items():
            with pytest.raises(ValueError, match=f"{argument} must be {words}, got {re.escape(repr(value))}"):
                build(C, **{argument: value})
    for value, words in WRONG_RATIOS.items() if "rd_ratio" in taken else ():
        with pytest.raises(ValueError, match=f"rd_ratio must be {words}, got {re.escape(repr(value))}"):
            build(C, rd_ratio=value)
    for argument in taken.keys() & {"bias", "learnable"}:
        with pytest.raises(ValueError, match=f"{argument} must be True or False, got 'no'"):
            build(C, **{argument: "no"})


def test_numbers_of_numpy_are_numbers():
    assert SASEBlock(np.int64(C), rd_channels=np.int32(3), rd_ratio=np.float32(0.5))(draw(1, C, 2, 2)).shape[1] == C


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: create_op("channel_squeeze", ["gap"], C), "unknown channel_squeeze operation ['gap']"),
        (lambda: list_ops({}), "unknown operation set {}"),
        (lambda: create_attention(5, C), "unknown attention 5"),
        (lambda: create_attention("att_darts", C, choice=["cbam"]), "unknown choice of Att-DARTS ['cbam']"),
        (lambda: SASEBlock(C, gate_init=["constant"]), "unknown gate_init ['constant']"),
    ],
)
def test_names_that_are_no_strings_are_unknown(call, message):
    with pytest.raises(UnknownNameError, match=re.escape(message)):
        call()


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("psa", {"kernels": (3, 5, 7)}, "kernels must be four numbers, got (3, 5, 7)"),
        ("psa", {"kernels": 3}, "kernels must be four numbers, got 3"),
        ("psa", {"groups": (1, 2, 4, 0)}, "each of groups must be at least 1, got 0"),
        ("psa", {"kernels": (3, 5, 7, 9.5)}, "each of kernels must be a whole number, got 9.5"),
        ("se", {"gate_layer": "sigmoidd"}, "gate_layer must be a class of modules or a name such as 'hard_sigmoid'"),
        ("se", {"gate_layer": 3}, "gate_layer must be a class of modules or a name such as 'hard_sigmoid', got 3"),
        ("autola", {"rd_ratio": 0.5, "channels": 18}, "channels must be a multiple of 4, got 18"),
    ],
)
def test_other_options_are_checked(name, options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        ATTENTIONS[name](**{"channels": C} | options)


def test_a_square_size_is_no_truth_value():
    with pytest.raises(ValueError, match="size must be a positive height and width, got True"):
        create_op("spatial_excite", "affine", C, size=True)


def test_a_fused_attention_says_what_is_wrong():
    from sase_attn.fusion import tails

    attention: nn.Module = create_attention("se", C)
    with pytest.raises(ValueError, match=re.escape("expected an input of shape (B, 16, H, W), got (2, 8, 4, 4)")):
        tails.tail(attention, draw(2, 8, 4, 4), draw(2, 8, 4, 4), relu=True)
