"""What studies of papers share: exponents of power laws over seeds, and findings about numbers of seeds."""

import numpy as np
import pytest
from scipy import stats

from sgdlit.foundations.errors import UserError
from sgdlit.papers.support.bands import in_every, in_mean, in_median, in_most
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


def test_findings_hold_inside_their_band_alone():
    assert in_mean("X", "value", [0.9, 1.0, 1.4], 1.0, 1.2).holds
    assert not in_mean("X", "value", [0.9, 1.0, 1.4], 1.15, 1.2).holds
    assert not in_mean("X", "value", [1.0, np.nan], 0.0, 2.0).holds
    assert in_median("X", "value", [0.0, 1.0, 9.0], 0.9, 1.1).holds
    assert in_every("X", "value", [[0.5, 1.0], [1.0, 1.5]], 0.5, 1.5).holds
    assert not in_every("X", "value", [0.5, 1.6], high=1.5).holds
    assert not in_every("X", "value", [0.5, 1.6], low=0.6).holds
    assert in_most("X", "value", [True, True, False], 2).holds
    assert not in_most("X", "value", [True, True, False], 3).holds
    assert str(in_most("X", "value", [True, False], 1)).endswith(
        "predicted ≥ 1 of 2; found 1 of 2; holds: yes"
    )
