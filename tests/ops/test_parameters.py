"""Parameters of the operations: how many, where they start, what hosts do to them, and how they are resized."""

from functools import partial

import pytest
import timm
import torch
from inputs import OPS, draw
from tolerances import assert_close
from torch import nn

from sase_attn import Genotype, SASEBlock, create_op
from sase_attn.genotype import EDGES
from sase_attn.ops import OP_SETS

pytestmark = pytest.mark.usefixtures("one_thread")
DOUBLE = torch.float64

C = 256
COUNTS = {
    "channel_squeeze": {
        "gap": 0,
        "gsop": C // 2 + C * C // 16 + C * C // 4,
        "gsop_sample": C // 2 + C * C // 16 + C * C // 4,
        "l2norm": 2 * C,
        "l2norm_group": 2 * C,
        "l4": 0,
        "l4_mean": 0,
        "gap_gmp": 2,
        "gap_std": 2,
        "gap_skew": 2,
        "gap_skewness": 2,
    },
    "channel_excite": {
        "fc": C * C // 8,
        "fc_sigmoid": C * C // 8,
        "conv1d_k3": 3,
        "conv1d_k5": 5,
        "conv1d_k7": 7,
        "conv1d_k3_x2": 6,
        "conv1d_k3_x3": 9,
        "affine": 2 * C,
    },
    "spatial_squeeze": {
        "gap": 0,
        "gsop": 8320,
        "gsop_sample": 8320,
        "l2norm": 2 * 14 * 14,
        "l2norm_channel": 2 * C,
        "l4": 0,
        "l4_mean": 0,
        "gap_gmp": 2,
        "gap_std": 2,
        "gap_skew": 2,
        "gap_skewness": 2,
    },
    "spatial_excite": {
        "conv2d_k3": 9,
        "conv2d_k5": 25,
        "conv2d_k7": 49,
        "conv2d_k3_x2": 18,
        "sep_k3": 6,
        "sep_k5": 10,
        "affine": 2 * 14 * 14,
    },
}


@pytest.mark.parametrize("op_set, name", OPS)
def test_parameter_count(op_set, name):
    op = create_op(op_set, name, C, size=(14, 14))
    assert sum(parameter.numel() for parameter in op.parameters()) == COUNTS[op_set][name]


def test_parameter_counts_of_the_paper():
    assert COUNTS["channel_squeeze"]["gsop"] == 20608
    assert {s: set(ops) for s, ops in COUNTS.items()} == {s: set(ops) for s, ops in OP_SETS.items()}


@pytest.mark.parametrize("channels, hidden", [(1, 1), (15, 1), (16, 1), (31, 1), (32, 2), (100, 6), (2048, 128)])
def test_width_of_fc_is_a_sixteenth_but_never_zero(channels, hidden):
    assert create_op("channel_excite", "fc", channels).fc1.weight.shape == (hidden, channels, 1, 1)


STARTS = {
    "mixer.weight": 0.5,
    "mix.weight": 0.5,
    "alpha": 1.0,
    "beta": 0.0,
    "norm.weight": 1.0,
    "norm.bias": 0.0,
    "squeeze.weight": 1.0,
    "squeeze.bias": 0.0,
}


def started(name: str, value: torch.Tensor) -> bool | None:
    """Whether a parameter has its fixed starting value; None if it starts at random."""
    for ending, start in STARTS.items():
        if name.endswith(ending):
            return bool((value == start).all())
    return None


@pytest.mark.parametrize("op_set, name", OPS)
def test_starting_values(op_set, name):
    for key, value in create_op(op_set, name, 8).named_parameters():
        expected = started(key, value) if "." in key or "squeeze" not in op_set else started(f"squeeze.{key}", value)
        if expected is None:
            bound = value[0].numel() ** -0.5  # as torch starts its convolutions
            assert value.abs().max() <= bound
            assert value.unique().numel() > 1
        else:
            assert expected, f"{key} starts at {value.flatten()[:4].tolist()}"


@pytest.mark.parametrize(
    "genotype",
    [
        "sase",
        Genotype("gap_std", "conv1d_k3_x2", "affine", "gap_skew", "gap_gmp", "affine"),
        Genotype("gsop", "fc", "conv1d_k5", "l2norm", "gsop", "sep_k5"),
    ],
    ids=["sase", "mixers and affines", "gsop and l2norm"],
)
def test_hosts_do_not_touch_the_starting_values(genotype):
    model = timm.create_model(
        "resnet10t", num_classes=3, block_args={"attn_layer": partial(SASEBlock, genotype=genotype)}
    )
    blocks = [module for module in model.modules() if isinstance(module, SASEBlock)]
    assert len(blocks) == 4
    for block in blocks:
        x = torch.randn(2, block.channels, 4, 4)
        gain = 1.25 if block.genotype.channel_excite == "fc" else 1.5
        assert torch.allclose(block(x), gain * x)  # the last layers of both output excitations are zero
        for name, value in block.named_parameters():
            assert name.split(".")[0].endswith("_excite") or started(name, value) in (True, None), name
    before = [{name: value.clone() for name, value in block.state_dict().items()} for block in blocks]
    for zero_init_last in (True, False):
        model.init_weights(zero_init_last=zero_init_last)
    for block, state in zip(blocks, before, strict=True):
        for name, value in block.state_dict().items():
            assert torch.equal(value, state[name]), f"init_weights changed {name}"


PER_POSITION = [("spatial_squeeze", "l2norm"), ("spatial_excite", "affine")]


def perturb(op: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    for seed, parameter in enumerate(op.parameters()):
        parameter.data.copy_(draw(*parameter.shape, seed=seed))
    scale, shift = op.parameters()
    return scale.detach(), shift.detach()


def formula(name: str, x: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    if name == "affine":
        return torch.sigmoid(scale * x + shift)
    return (nn.functional.layer_norm(x, x.shape[2:]) * scale + shift).square().sum(1, keepdim=True).sqrt()


@pytest.mark.parametrize("op_set, name", PER_POSITION)
def test_weights_per_position_are_exact_at_the_reference_size(op_set, name):
    op = create_op(op_set, name, 3, size=(5, 4), dtype=DOUBLE)
    scale, shift = perturb(op)
    x = draw(2, 1 if name == "affine" else 3, 5, 4, dtype=DOUBLE)
    assert_close(op(x), formula(name, x, scale, shift), tolerance=1e-14)


@pytest.mark.parametrize("op_set, name", PER_POSITION)
@pytest.mark.parametrize("size", [(1, 1), (3, 4), (10, 8), (14, 5)])
def test_weights_per_position_are_resized_bilinearly(op_set, name, size):
    op = create_op(op_set, name, 3, size=(5, 4), dtype=DOUBLE)
    scale, shift = (
        nn.functional.interpolate(value.reshape(1, 1, 5, 4), size, mode="bilinear")[0] for value in perturb(op)
    )
    x = draw(2, 1 if name == "affine" else 3, *size, dtype=DOUBLE)
    assert_close(op(x), formula(name, x, scale, shift))


@pytest.mark.parametrize("op_set, name", PER_POSITION)
@pytest.mark.parametrize("size", [(1, 1), (7, 7), (3, 4), (13, 20)])
def test_the_identity_they_start_as_survives_resizing(op_set, name, size):
    op = create_op(op_set, name, 3, dtype=DOUBLE)
    x = draw(2, 1 if name == "affine" else 3, *size, dtype=DOUBLE)
    one, zero = torch.ones((), dtype=DOUBLE), torch.zeros((), dtype=DOUBLE)
    assert_close(op(x), formula(name, x, one, zero), tolerance=1e-14)


@pytest.mark.parametrize("op_set, name", PER_POSITION)
def test_an_optimizer_made_before_trains_weights_that_took_another_size(op_set, name):
    op, other = (create_op(op_set, name, 3, size=size) for size in (5, 4))
    optimizer = torch.optim.SGD(op.parameters(), 0.1)
    x = draw(2, 1 if name == "affine" else 3, 4, 4)
    loss = op(x).sum()  # as in a notebook, its graph lives on
    loss.backward()
    op.load_state_dict(other.state_dict())
    optimizer.step()
    assert all(torch.equal(value, other.state_dict()[key]) for key, value in op.state_dict().items())
    op(x).sum().backward()
    optimizer.step()
    assert not any(torch.equal(value, other.state_dict()[key]) for key, value in op.state_dict().items())


def test_every_operation_with_weights_per_position_is_here():
    found = []
    for op_set, name in OPS:
        shapes = [[p.shape for p in create_op(op_set, name, 8, size=size).parameters()] for size in (3, 5)]
        if shapes[0] != shapes[1]:
            found.append((op_set, name))
    assert found == PER_POSITION
    assert set(EDGES.values()) == set(OP_SETS)


@pytest.mark.parametrize("name", ["gap_gmp", "gap_std", "gap_skew", "gap_skewness"])
@pytest.mark.parametrize("op_set", ["channel_squeeze", "spatial_squeeze"])
def test_mixers_start_alive(op_set, name):
    """Random weights would give a ReLU that is shut everywhere, in almost half of all draws."""
    assert all(create_op(op_set, name, 64)(draw(2, 64, 7, 7, seed=seed)).any() for seed in range(10))
