"""Paired differences: by hand, against scipy's own test, and by simulation."""

import numpy as np
import pytest
from scipy import stats

from sase_attn.comparison.paired import holm, paired_differences, seeds_needed, visible_difference


def accuracies(**differences):
    base = [60.0, 62.0, 61.0, 64.0, 59.0, 63.0]
    return {"plain": base} | {
        label: [a + d for a, d in zip(base, values, strict=True)] for label, values in differences.items()
    }


def test_verdicts():
    found = paired_differences(
        accuracies(
            up=[2.0, 2.2, 1.8, 2.1, 1.9, 2.0],
            down=[-4.0, -3.5, -4.5, -4.2, -3.8, -4.0],
            same=[0.1, -0.1, 0.05, -0.05, 0.1, -0.1],
            noisy=[3.0, -3.0, 2.0, -2.0, 4.0, -3.5],
        ),
        "plain",
    )
    assert [d.verdict for d in found] == ["better", "worse", "equal within 0.5", "inconclusive"]
    assert [d.label for d in found] == ["up", "down", "same", "noisy"]


def test_the_interval_and_the_test_are_students():
    values = [0.3, 1.1, -0.2, 0.9, 0.8, 0.4]
    (found,) = paired_differences(accuracies(other=values), "plain")
    expected = stats.ttest_1samp(values, 0)
    interval = expected.confidence_interval(0.95)
    assert found.p == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == (pytest.approx(interval.low), pytest.approx(interval.high))
    outside = max(
        stats.ttest_1samp(values, -0.5, alternative="greater").pvalue,
        stats.ttest_1samp(values, 0.5, alternative="less").pvalue,
    )
    assert found.p_equal == pytest.approx(outside)


def test_holm_by_hand():
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == {
        "a": pytest.approx(0.03),
        "b": pytest.approx(0.06),  # 0.04 alone, but never below the one before it
        "c": pytest.approx(0.06),
    }
    assert holm({"a": 0.6, "b": 0.9}) == {"a": 1.0, "b": 1.0}


def test_more_networks_make_a_claim_harder():
    values = [0.9, 0.2, 1.0, 0.4, 0.8, 0.9]
    noise = [2.0, -2.0, 1.0, -1.0, 0.5, -0.5]
    (alone,) = paired_differences(accuracies(other=values), "plain")
    many = paired_differences(accuracies(other=values, **{f"n{i}": noise for i in range(20)}), "plain")
    assert alone.verdict == "better" and many[0].verdict == "inconclusive"
    assert many[0].p == pytest.approx(21 * alone.p)


def test_seeds_of_a_textbook():
    assert seeds_needed(std=1.0, difference=0.5) == 34  # Cohen's d of 0.5, paired, 80 % power
    assert seeds_needed(std=1.0, difference=0.8) == 15
    assert visible_difference(1.0, 34) == pytest.approx(0.4944, abs=1e-3)
    assert visible_difference(2.0, 34) == pytest.approx(2 * visible_difference(1.0, 34))
    assert seeds_needed(std=0.0) == 2 and visible_difference(0.0, 5) == 0.0
    assert seeds_needed(std=1000.0) == 100_000


def test_the_visible_difference_is_seen_four_times_in_five():
    rng = np.random.default_rng(0)
    draws = rng.normal(visible_difference(1.3, 6), 1.3, (20_000, 6))
    seen = np.mean(stats.ttest_1samp(draws, 0, axis=1).pvalue < 0.05)
    assert seen == pytest.approx(0.8, abs=0.01)


def test_among_four_networks_it_is_seen_in_fewer_than_half_of_the_cases():
    """As docs/compare.md says of five seeds: the visible difference is that of a test without Holm's correction."""
    values = np.random.default_rng(0).normal(0, 1, (2000, 4, 5))
    values[:, 0] += visible_difference(1.0, 5)
    p = stats.ttest_1samp(values, 0, axis=2).pvalue
    seen = [holm(dict(enumerate(row)))[0] < 0.05 for row in p.tolist()]
    assert 0.42 < np.mean(seen) < 0.5 and abs(np.mean(p[:, 0] < 0.05) - 0.8) < 0.03


def test_below_five_seeds_nothing_is_judged():
    few = {label: values[:4] for label, values in accuracies(other=[5.0] * 6).items()}
    (found,) = paired_differences(few, "plain")
    assert found.verdict == "not judged: 4 of at least 5 seeds" and found.mean == 5.0
    assert found.low is found.high is found.p is found.visible is found.seeds_needed is None


def test_differences_without_spread():
    same, shifted = paired_differences(accuracies(same=[0.0] * 6, shifted=[1.0] * 6), "plain")
    assert same.verdict == "equal within 0.5" and shifted.verdict == "better"


def test_an_accuracy_is_known_to_one_image():
    rows = accuracies(same=[0.0] * 6, shifted=[100 / 36] * 6)
    few, one_more = paired_differences(rows, "plain", images=36)
    assert few.verdict == "inconclusive" and few.low < -0.5 and few.visible > 0.5 and few.seeds_needed > 2
    assert one_more.verdict == "better"  # six times in six
    many, _ = paired_differences(rows, "plain", images=10_000)
    assert many.verdict == "equal within 0.5" and 0 < many.high < 0.01
    noisy = accuracies(other=[2.0, -2.0, 1.0, -1.0, 0.5, -0.5])
    assert paired_differences(noisy, "plain", images=10_000) == paired_differences(noisy, "plain")


@pytest.mark.parametrize(
    ("values", "reference", "message"),
    [
        ({"a": [1.0]}, "plain", "reference: wanted one of a, got 'plain'"),
        ({"plain": [1.0, 2.0], "a": [1.0]}, "plain", "the same seeds of every network, got plain 2, a 1"),
        ({"plain": [], "a": []}, "plain", "the same seeds of every network, got plain 0, a 0"),
    ],
)
def test_wrong_rows(values, reference, message):
    with pytest.raises(ValueError, match=message):
        paired_differences(values, reference)
