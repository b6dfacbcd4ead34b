"""What studies of papers share: exponents of power laws over seeds."""

import numpy as np
import pytest
from scipy import stats

from sgdlit.foundations.errors import UserError
from sgdlit.papers.support.slopes import log_slope, log_slopes


def test_the_slope_of_a_power_law_is_its_exponent():
    x = np.array([1.0, 3.0, 10.0, 50.0])
    y = np.array([[2.0], [0.1]]) * x ** np.array([[1.5], [-0.7]])
    np.testing.assert_allclose(log_slope(x, y), [1.5, -0.7], rtol=1e-12)


def test_slopes_of_seeds_against_scipy():
    """Each by ``linregress``, the interval by ``stats.t.interval``."""
    rng = np.random.default_rng(0)
    x = np.geomspace(1, 100, 7)
    y = x**0.8 * np.exp(0.3 * rng.standard_normal((6, 7)))
    found = log_slopes(x, y)
    each = [stats.linregress(np.log(x), np.log(row)).slope for row in y]
    np.testing.assert_allclose(found.each, each, rtol=1e-12)
    assert found.mean == pytest.approx(np.mean(each))
    assert found.std == pytest.approx(np.std(each, ddof=1))
    expected = stats.t.interval(0.95, 5, np.mean(each), stats.sem(each))
    assert found.interval == pytest.approx(expected)
    assert log_slopes(x, y[:1]).interval is None


@pytest.mark.parametrize(
    ("x", "y"),
    [([1.0], [[1.0]]), ([1.0, 2.0], [[1.0, -1.0]]), ([1.0, 2.0], [[1.0, np.inf]]), ([1.0, 2.0], [[1.0]])],
)
def test_points_without_a_power_law_are_refused(x, y):
    with pytest.raises(UserError, match="points"):
        log_slopes(np.array(x), np.array(y))
