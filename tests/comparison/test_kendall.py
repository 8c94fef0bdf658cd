"""Rank correlation, where it is defined."""

import warnings

import pytest

from sase_attn.comparison.kendall import kendall


def test_by_hand():
    tau, p = kendall([40.0, 20.0, 30.0], [4.0, 3.0, 2.0])
    assert tau == pytest.approx(1 / 3) and 0 < p <= 1  # two pairs agree, one does not


@pytest.mark.parametrize("values", [[], [0.3], [50.0, 50.0, 50.0]])
def test_nothing_to_rank_is_no_warning(values):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert kendall(values, values) == (None, None)
