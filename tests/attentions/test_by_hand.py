"""Outputs worked out on paper, for tiny maps: the attentions whose gate is one number a channel, and gather-excite."""

from math import exp, sqrt

import pytest
import torch
from by_hand import EPS, L3, check, filled, sigmoid, tap
from tolerances import assert_close
from torch import nn

from sase_attn.attentions.ean import EAN
from sase_attn.attentions.gather_excite import GETheta, GEThetaMinus, GEThetaPlus
from sase_attn.attentions.gc import GC
from sase_attn.attentions.gct_gaussian import GCTGaussian
from sase_attn.attentions.gsop import GSoP

pytestmark = pytest.mark.usefixtures("one_thread")


def test_gct_gaussian_of_two_channels():
    # Means 0 and 2: their mean 1, variance 1, z = ∓1 but for eps; exp(-z²/(2·2²)) = exp(-1/8) for both.
    gate = exp(-1 / (1 + EPS) / 8)
    check(filled(GCTGaussian(2, learnable=False)), [[[-1, 1]], [[1, 3]]], [[[-gate, gate]], [[gate, 3 * gate]]])
    assert gate == pytest.approx(0.882497, abs=2e-6)  # exp(-1/8); exp(-z²/2·c) would give exp(-1) = 0.368


@pytest.mark.parametrize("theta, c", [(0.0, 2.5), (L3, 3.25), (-L3, 1.75)])
def test_gct_gaussian_that_learns_its_width(theta, c):
    # c = 3·sigmoid(θ) + 1. Channels 0, 1, 5 (mean 2, variance 14/3): z² = (4, 1, 9)/(14/3) but for eps.
    z2 = [4 / (14 / 3 + EPS), 1 / (14 / 3 + EPS), 9 / (14 / 3 + EPS)]
    y = [[[0.0]], [[exp(-z2[1] / (2 * c * c))]], [[5 * exp(-z2[2] / (2 * c * c))]]]
    check(filled(GCTGaussian(3), {"theta": theta}), [[[0]], [[1]], [[5]]], y)


def test_gsop_of_two_channels():
    # ReLU leaves (0, 2) and (8, 2), reduced to (0, 2) and 2·(0, 2) + (8, 2) = (8, 6), centred (-1, 1) and (1, -1):
    # the covariance over M = 2 is [[1, -1], [-1, 1]].
    # First output of row 0: 1·1 + 2·(-1) = -1; of row 1: 3·(-1) + 0·1 = -3. They are the two logits.
    module = filled(
        GSoP(2, width=2),
        {
            "reduce.weight": [[1, 0], [2, 1]],
            "row_conv.weight": [[1, 2], [0, 0], [0, 0], [0, 0], [3, 0], [0, 0], [0, 0], [0, 0]],
            "expand.weight": [[1, 0, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 1, 0, 0, 0]],
        },
    )
    first, second = sigmoid(-1), sigmoid(-3)
    check(module, [[[-5, 2]], [[8, 2]]], [[[-5 * first, 2 * first]], [[8 * second, 2 * second]]])


def test_gsop_normalises_each_row_of_the_covariance():
    # As above; the norm turns row 0 into (1, -1)·5 + 7 = (12, 2) and leaves row 1, (-1, 1). Both sums, the first with
    # its bias of -14, are 0, and the biases of ln 3 make both gates 3/4.
    module = filled(
        GSoP(2, width=2),
        {
            "reduce.weight": [[1, 0], [2, 1]],
            "norm2.weight": [5, 1],
            "norm2.bias": [7, 0],
            "row_conv.weight": [[0, 0], [0, 0], [1, 1], [0, 0], [1, 1], [0, 0], [0, 0], [0, 0]],
            "row_conv.bias": [0, 0, -14, 0, 0, 0, 0, 0],
            "expand.weight": [[0, 0, 1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 1, 0, 0, 0]],
            "expand.bias": [L3, L3],
        },
    )
    check(module, [[[-5, 2]], [[8, 2]]], [[[-3.75, 1.5]], [[6, 1.5]]])


def test_ean_shares_its_parameters_between_groups():
    # Two groups of two, of maps so large that the eps of their variance is lost: n = ±γ + β. With r² = 1 - eps/25,
    # γ = r·(1, 7) has mean γ² + eps = 25, so γ̂ = r·(0.2, 1.4); r·r cancels against α.
    # First of a group: (∓1 + 1)·5·0.2 = 0, 2. Second: ±7·(10/98)·1.4 + 0.5 = 1.5, -0.5.
    r2 = 1 - EPS / 25
    r = sqrt(r2)
    module = filled(
        EAN(4, groups=2),
        {"weight": [r, 7 * r], "bias": [r, 0], "alpha": [5 / r2, 10 / 98 / r2], "delta": [0, 0.5]},
    )
    rows = [[0.0, 2e4], [5e4, -1e4], [-1e4, 3e4], [2e4, 0.0]]
    gates = [[0.5, sigmoid(2)], [sigmoid(1.5), sigmoid(-0.5)]] * 2
    y = [[[value * gate for value, gate in zip(*pair, strict=True)]] for pair in zip(rows, gates, strict=True)]
    check(module, [[row] for row in rows], y)


def test_gc_adds_one_vector_to_every_position():
    # Logits (0, ln 3): shares (1/4, 3/4), context (3/4, 1 + 6 = 7). 10⁴·(7, 3/4) standardise to ±1, eps lost;
    # ×(2, 3) + (0, 5) = (2, 2); the second layer makes (2, 2 - 4 = -2).
    module = filled(
        GC(2, rd_ratio=1.0),
        {
            "conv_attn.weight": [L3, 0],
            "mlp_add.fc1.weight": [[0, 1e4], [1e4, 0]],
            "mlp_add.norm.weight": [2, 3],
            "mlp_add.norm.bias": [0, 5],
            "mlp_add.fc2.weight": [[1, 0], [1, -2]],
        },
    )
    check(module, [[[0, 1]], [[4, 8]]], [[[2, 3]], [[2, 6]]])


def test_gather_excite_without_parameters():
    nine = [[1.0, 2, 3], [4, 5, 6], [7, 8, 9]]
    half = sigmoid(5)  # the mean of the whole map
    check(GEThetaMinus(1).double(), [nine], [[[value * half for value in row] for row in nine]])
    # Extent 2: windows of 3 around rows and columns 0 and 2, within the map: means 3, 4, 6, 7. Nearest: 0, 0, 1.
    a, b, c, d = (sigmoid(value) for value in (3, 4, 6, 7))
    y = [[1 * a, 2 * a, 3 * b], [4 * a, 5 * a, 6 * b], [7 * c, 8 * c, 9 * d]]
    check(GEThetaMinus(1, extent=2).double(), [nine], [y])


def test_gather_excite_with_a_kernel_as_large_as_the_map():
    # Rows (1, 5), (1, 5) resized to one row of 4: 1, 2, 4, 5, as many elements as before: 4 - 4 + 4 - 2.5 = 1.5.
    module = filled(GETheta(1, size=2), {"gather.0.weight": [[1, 5], [1, 5]]})
    gate = sigmoid(1.5)
    check(module, [[[4, -2, 1, -0.5]]], [[[4 * gate, -2 * gate, gate, -0.5 * gate]]])
    # A kernel of one number, 6, is 6 times the mean: 6·0.5 = 3.
    check(filled(GETheta(1, size=1), {"gather.0.weight": 6}), [[[2, -1]]], [[[2 * sigmoid(3), -sigmoid(3)]]])


def test_gather_excite_with_strided_convolutions():
    # Extent 4: every other element twice, ReLU after the first: (-1, ·, 0, ·, 2) → (0, 0, 2) → (0, 2) - 1 → nearest
    # of 5 is 0, 0, 0, 1, 1. No ReLU after the second: logits -1 and 1.
    module = filled(
        GETheta(1, extent=4),
        {"gather.0.weight": tap(3, 0, 0), "gather.3.weight": tap(3, 0, 0), "gather.4.bias": -1},
    )
    low, high = sigmoid(-1), sigmoid(1)
    check(module, [[[-1, 3, 0, 3, 2]]], [[[-low, 3 * low, 0, 3 * high, 2 * high]]])


def test_gather_excite_with_an_mlp():
    # Gathered: 2·mean 1.5 = 3 and 1·mean 1 = 1. Hidden relu(3 - 1, 1 - 3) = (2, 0); logits (2, -1).
    module = filled(
        GEThetaPlus(2, size=1, rd_ratio=1.0),
        {"gather.0.weight": [2, 1], "fc1.weight": [[1, -1], [-1, 1]], "fc2.weight": [[1, 5], [-0.5, 7]]},
    )
    first, second = sigmoid(2), sigmoid(-1)
    check(module, [[[1, 2]], [[2, 0]]], [[[first, 2 * first]], [[2 * second, 0]]])


def test_what_filled_does_is_nothing_to_a_norm():
    x = torch.tensor([[[[-3.0]], [[5.0]]]], dtype=torch.float64)
    assert_close(filled(nn.BatchNorm2d(2))(x), x)
    assert sqrt(1 - EPS + EPS) == 1
