"""The two-way model against least squares, published numbers, and its own definition; what degenerates."""

import numpy
import pytest
from scipy import stats

from sase_attn.search.signal.variation import variation

SHROUT_FLEISS = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]
"""Six targets and four judges, from Intraclass Correlations: Uses in Assessing Rater Reliability, 1979."""


def residual_squares(values, *, genotypes):
    """Sum of squares that a fit by seeds, and by genotypes or not, leaves."""
    rows, columns = values.shape
    of_seeds = numpy.tile(numpy.eye(columns), (rows, 1))
    of_genotypes = numpy.repeat(numpy.eye(rows), columns, axis=0)
    design = numpy.hstack([of_seeds, of_genotypes]) if genotypes else of_seeds
    fitted = design @ numpy.linalg.lstsq(design, values.reshape(-1), rcond=None)[0]
    return float(((values.reshape(-1) - fitted) ** 2).sum())


def test_published_numbers():
    """Consistency of single judges: ICC(3, 1) of the paper, and its interval as statistics packages give it."""
    found = variation(SHROUT_FLEISS, error=0.025)
    assert found.icc == pytest.approx(0.7148, abs=1e-4)
    assert (round(found.low, 2), round(found.high, 2)) == (0.34, 0.95)
    assert found.residual_std**2 == pytest.approx(1.019, abs=1e-3)
    assert 4 * found.genotype_std**2 + found.residual_std**2 == pytest.approx(11.24, abs=1e-2)
    assert found.p == pytest.approx(0.000135, abs=1e-6)


@pytest.mark.parametrize("shape", [(2, 2), (7, 4), (14, 3)])
def test_against_least_squares(shape):
    values = numpy.random.default_rng(1).standard_normal(shape) + numpy.arange(shape[0])[:, None] / 3
    found = variation(values.tolist())
    freedom, rest = shape[0] - 1, (shape[0] - 1) * (shape[1] - 1)
    left = residual_squares(values, genotypes=True)
    between, residual = (residual_squares(values, genotypes=False) - left) / freedom, left / rest
    assert found.residual_std**2 == pytest.approx(residual)
    assert found.genotype_std**2 == pytest.approx(max(0, between - residual) / shape[1])
    assert found.p == pytest.approx(stats.f.sf(between / residual, freedom, rest))
    assert found.icc == pytest.approx(found.genotype_std**2 / (found.genotype_std**2 + residual))


def test_limits_are_where_the_data_become_unlikely():
    values = numpy.random.default_rng(2).standard_normal((14, 4)) + 1.5 * numpy.random.default_rng(3).standard_normal(
        (14, 1)
    )
    found = variation(values.tolist(), error=0.03)
    assert 0 < found.low < found.icc < found.high < 1
    ratio = (4 * found.genotype_std**2 + found.residual_std**2) / found.residual_std**2
    for limit, tail in ((found.low, stats.f.sf), (found.high, stats.f.cdf)):
        assert tail(ratio / (1 + 4 * limit / (1 - limit)), 13, 39) == pytest.approx(0.03)


def test_limits_of_the_deviations_cover():
    """Over 1,500 worlds each limit errs about as often as it may."""
    generator, missed = numpy.random.default_rng(4), numpy.zeros(4)
    for _ in range(1500):
        values = 0.7 * generator.standard_normal((7, 1)) + generator.standard_normal((7, 4))
        found = variation(values.tolist())
        missed += [
            found.genotype_std_low > 0.7,
            found.genotype_std_high < 0.7,
            found.residual_std_low > 1,
            found.residual_std_high < 1,
        ]
        assert (found.genotype_std_low == 0) == (found.low == 0)
    assert (abs(missed / 1500 - 0.05) < 0.02).all(), missed / 1500


def test_seeds_drop_out():
    values = numpy.random.default_rng(5).standard_normal((7, 4))
    one, other = variation(values.tolist()), variation((values + [[0, 5, -3, 40]]).tolist())
    assert one.icc == pytest.approx(other.icc) and one.residual_std == pytest.approx(other.residual_std)


def test_what_does_not_differ():
    equal = variation([[64.1, 63.3], [64.1, 63.3], [64.1, 63.3]])
    assert equal.all_equal and (equal.icc, equal.low, equal.high, equal.p) == (0, 0, 1, 1)
    certain = variation([[64.1, 63.3], [65.1, 64.3], [66.1, 65.3]])
    assert not certain.all_equal and certain.residual_std == certain.residual_std_high == 0
    assert (certain.icc, certain.low, certain.high, certain.p) == (1, 1, 1, 0)
    assert certain.genotype_std == pytest.approx(1) and certain.genotype_std_low > 0
    level = variation([[1.0, 2.0], [2.0, 1.0]])
    assert (level.icc, level.low, level.high, level.p) == (0, 0, 0, 1) and level.genotype_std_high == 0


@pytest.mark.parametrize("values", [[], [[1.0, 2.0]], [[1.0], [2.0]], [[1.0, 2.0], [1.0]]])
def test_too_little(values):
    with pytest.raises(ValueError, match="wanted 2 genotypes or more with the same 2 seeds or more, got"):
        variation(values)
