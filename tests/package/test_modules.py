"""Name patterns choose modules dot by dot, and parameters as a whole."""

import pytest
from torch import nn

from sase_attn.errors import UnknownNameError
from sase_attn.modules import count_parameters, freeze, matches, matching

NAMES = ("", "layer1", "layer1.0", "layer1.0.bn3", "layer2.0.bn3", "bn3")


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("layer*.*.bn3", ["layer1.0.bn3", "layer2.0.bn3"]),
        ("*", ["", "layer1", "bn3"]),
        ("layer[12]", ["layer1"]),
        ("bn3", ["bn3"]),
        (["bn3", "layer2.*.*"], ["layer2.0.bn3", "bn3"]),
    ],
)
def test_patterns_match_dot_by_dot(pattern, found):
    assert matching(NAMES, pattern) == found
    if isinstance(pattern, str):
        assert [name for name in NAMES if matches(name, pattern)] == found


def test_a_pattern_without_a_match_is_refused():
    with pytest.raises(UnknownNameError, match=r"unknown module pattern 'layr1'; did you mean layer1"):
        matching(NAMES, ["bn3", "layr1"])
    with pytest.raises(UnknownNameError, match="unknown layer 'Bn3'"):
        matching(NAMES, "Bn3", kind="layer")


def test_frozen_norms_are_those_that_are_frozen_as_a_whole():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.BatchNorm2d(4))
    assert count_parameters(model) == 3 * 4 + 4 + 8 + 8
    assert freeze(model, ["1.*", "2.bias"]) == [model[1]]
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert trained == ["0.weight", "0.bias", "2.weight"]
    with pytest.raises(ValueError, match="leaves no parameter to train"):
        freeze(model, ["*"])
