"""Outputs worked out on paper, for tiny maps: the attentions that weigh positions, branches or products of channels."""

from math import exp, log

import pytest
from by_hand import L3, check, filled, sigmoid, tap, times

from sase_attn.attentions.autola import AutoLA
from sase_attn.attentions.bam import BAM
from sase_attn.attentions.double_attention import DoubleAttention
from sase_attn.attentions.glam import GLAM
from sase_attn.attentions.psa import PSA

pytestmark = pytest.mark.usefixtures("one_thread")


def test_bam_multiplies_its_branches():
    # Channels: means (3, 1), 3 - 2·1 = 1, then ×(1, -1). Positions: the right tap, 4 away, moves the 5 of channel 0
    # from the last place to the first and zeros the rest; minus 2: (3, -2, -2, -2, -2). Logits ±(3, -2, -2, -2, -2).
    module = filled(
        BAM(2, rd_ratio=0.5),
        {
            "fc1.weight": [1, -2],
            "fc2.weight": [1, -1],
            "reduce.weight": [1, 0],
            "conv1.weight": tap(3, 0, 1),
            "conv2.weight": tap(3, 0, 0),
            "expand.weight": 1,
            "expand.bias": -2,
        },
    )
    high, low = 1 + sigmoid(3), 1 + sigmoid(-2)
    other_high, other_low = 1 + sigmoid(-3), 1 + sigmoid(2)
    y = [[[high, 2 * low, 3 * low, 4 * low, 5 * low]], [[other_high, *[other_low] * 4]]]
    check(module, [[[1, 2, 3, 4, 5]], [[1, 1, 1, 1, 1]]], y)


def test_autola_adds_up_its_nodes():
    # Every gate is its last norm's bias: sepgate 9/10, a 3/4, b 1/4, c 1/2, d 4/5, dilated 1/5; SE 1/2, CBAM 1/2·1/2.
    # s = (8, 10, 16, 8): n1 = 8; n2 = 9 + 6 = 15; n3 = 4 + 15 + 2 = 21; n4 = 4 + 8 + 16.8 + 3 = 31.8; u = 42/2 = 21.
    # The tail gives n1 + u, n2, n3, -n4 = 29, 15, 21, -31.8; half of x + tail is the output.
    module = filled(
        AutoLA(4),
        {
            "sepgate.norm2.bias": log(9),
            "sepconv_a.norm2.bias": L3,
            "sepconv_b.norm2.bias": -L3,
            "sepconv_d.norm2.bias": log(4),
            "dilconv.norm1.bias": -log(4),
            "tail.conv1.weight": [[1, 0, 0, 0, 1], [0, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 1, 0]],
            "tail.conv2.weight": [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, -1]],
        },
    )
    check(module, [[[8]], [[10]], [[16]], [[8]]], [[[18.5]], [[12.5]], [[18.5]], [[-11.9]]])


def test_psa_weighs_its_branches_against_each_other():
    # Branch i takes channel i and moves its one 5·v from place 4 to 3 - i, by the tap at its kernel's edge; mean v.
    # v = (-1, 0, ln 3, ln 3): sigmoid(relu(v)) = (1/2, 1/2, 3/4, 3/4), softmax 1/(2 + 2·e^±¼).
    values = [-1, 0, L3, L3]
    kernels = {}
    for i in range(4):
        kernels[f"branches.{i}.weight"] = [[times(tap(3 + 2 * i, 0, i + 1), c == i) for c in range(4)]]
    module = filled(PSA(4), {**kernels, "fc1.weight": 1, "fc2.weight": 1})
    low, high = 1 / (2 + 2 * exp(0.25)), 1 / (2 + 2 * exp(-0.25))
    y = [
        [[5 * v * w if place == 3 - i else 0 for place in range(5)]]
        for i, (v, w) in enumerate(zip(values, (low, low, high, high), strict=True))
    ]
    check(module, [[[0, 0, 0, 0, 5 * value]] for value in values], y)


def test_double_attention_gathers_and_distributes():
    # b: logits (0, ln 3) and (0, 0) over positions: shares (1/4, 3/4) and (1/2, 1/2). a = x = (0, 1), (4, 8):
    # G = [[3/4, 1/2], [7, 6]]. v: shares over channels (1/2, 1/2) at the first place, (3/4, 1/4) at the second.
    # z = (5/8, 13/2) at the first, (11/16, 27/4) at the second; added to x with a bias of (0, 1).
    eye, first = [[1, 0], [0, 1]], [[L3, 0], [0, 0]]
    module = filled(
        DoubleAttention(2, rd_ratio=1.0),
        {
            "conv_a.weight": eye,
            "conv_b.weight": first,
            "conv_v.weight": first,
            "expand.weight": eye,
            "expand.bias": [0, 1],
        },
    )
    check(module, [[[0, 1]], [[4, 8]]], [[[0.625, 1.6875]], [[11.5, 15.75]]])


def test_glam_mixes_local_global_and_input():
    # Local: channel gate 1/2, so 3/2·x; place gate sigmoid(the neighbour at the right of channel 0) = 3/4, 1/2.
    # Global: key = sigmoid(2·mean) = 3/4, 1/4, query 1/2, shares sigmoid(±1/4) of the channels for both queries: g.
    # Then key = channel 0, query 1: shares 1/4, 3/4 of the values, channel 1: -ln 3/4; expanded by ×1, and ×2 + 1/2.
    # Mixed by softmax(0, ln 2, ln 3) = 1/6, 2/6, 3/6.
    centre = [0, 1, 0]
    module = filled(
        GLAM(2, rd_channels=1, kernel_size=3),
        {
            "weights": [0, log(2), L3],
            "key_conv.weight": [2 * value for value in centre],
            "reduce.weight": [1, 0],
            "dilated1.weight": tap(3, 0, 1),
            "mix.weight": [0, 1, 0, 0],
            "query.bias": 1,
            "key.weight": [1, 0],
            "value.weight": [0, 1],
            "expand.weight": [1, 2],
            "expand.bias": [0, 0.5],
        },
    )
    x = [[0.0, L3], [-L3, 0.0]]
    high, low = sigmoid(0.25), sigmoid(-0.25)
    g = [-L3 * low, L3 * high]
    spatial = [-L3 / 4, 0.5 - L3 / 2]
    y = []
    for c in range(2):
        row = []
        for place, gate in enumerate((0.75, 0.5)):
            value = x[c][place]
            local, far = 1.5 * value * (1 + gate), value * (1 + g[place]) * (1 + spatial[c])
            row.append(local / 6 + far / 3 + value / 2)
        y.append([row])
    check(module, [[row] for row in x], y)
