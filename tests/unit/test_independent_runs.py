"""Means, standard errors and limits: against exact cases and Student's tables."""

import math

import numpy as np
import pytest

from sgdlit.foundations.errors import UserError
from sgdlit.foundations.intervals import distance_in_errors, error_limit, mean_and_error


def test_a_fixed_start_has_no_error_however_its_mean_rounds():
    """numpy's mean of 60 copies of this number is one unit in the last place off."""
    value = 1.7988698285718407
    mean, error = mean_and_error(np.full((1, 60), value))
    assert (mean[0], error[0]) == (value, 0.0)
    assert distance_in_errors(mean, error, np.array([value * (1 + 1e-15)])) == 0
    assert distance_in_errors(mean, error, np.array([value * (1 + 1e-9)])) == math.inf


def test_mean_and_error_are_the_textbook_ones():
    values = np.array([[1.0, 2.0, 3.0, 6.0], [0.0, 0.0, 0.0, 4.0]])
    mean, error = mean_and_error(values)
    np.testing.assert_allclose(mean, [3.0, 1.0], rtol=1e-15)
    np.testing.assert_allclose(error, [math.sqrt(14 / 3 / 4), 1.0], rtol=1e-15)
    assert distance_in_errors(mean, error, np.array([3.0, 3.5])) == pytest.approx(2.5)


def test_the_limit_is_students():
    """Two-sided 5 % (1.959964 errors) at 2 and at 10 degrees of freedom: 4.303 and 2.228."""
    assert error_limit(3, level=1.959964) == pytest.approx(4.303, abs=1e-3)
    assert error_limit(11, level=1.959964) == pytest.approx(2.228, abs=1e-3)
    assert error_limit(10**7) == pytest.approx(4, abs=1e-4)


def test_one_run_has_no_error():
    with pytest.raises(UserError, match="runs = 1"):
        mean_and_error(np.ones((3, 1)))
