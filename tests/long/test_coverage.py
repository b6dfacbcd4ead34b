"""Intervals cover what they are of as often as they say, counted over many draws of independent values."""

import math

import numpy as np
import pytest
from scipy.special import ndtr

from sgdlit.foundations.intervals import (
    bootstrap_interval,
    distance_in_errors,
    error_limit,
    mean_and_error,
    skewed_interval,
    t_interval,
)

DRAWS = 20_000


def four_errors(level: float, draws: int) -> float:
    """Four standard errors of a share of ``draws`` that is ``level`` in the mean."""
    return 4 * math.sqrt(level * (1 - level) / draws)


@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
@pytest.mark.parametrize("runs", [2, 5, 20])
def test_students_interval(runs, level):
    values = np.random.default_rng(runs).normal(3, 2, (DRAWS, runs))
    ends = [t_interval(own, level) for own in values]
    covered = sum(low <= 3 <= high for low, high in ends) / DRAWS
    assert covered == pytest.approx(level, abs=four_errors(level, DRAWS))


QUADRATIC_FORMS = {
    "one direction": [1.0],
    "two directions": [1.0, 1.0],
    "falling": [1.0, 0.4, 0.125, 0.025, 0.01],
    "indefinite": [1.0, -0.5, 0.2],
    "balanced": [1.0, -1.0],
    "many": [1.0] * 40,
}


@pytest.mark.parametrize("n", [10, 50])
@pytest.mark.parametrize("name", QUADRATIC_FORMS)
def test_the_interval_of_skewed_values(name, n):
    """Of xᵀAx with normal x and the eigenvalues of A: what traces and curvatures along draws are like."""
    eigenvalues = np.array(QUADRATIC_FORMS[name])
    x = np.random.default_rng(n).normal(0, 1, (4000, n, len(eigenvalues)))
    ends = [skewed_interval(own) for own in x**2 @ eigenvalues]
    covered = np.mean([low <= eigenvalues.sum() <= high for low, high in ends])
    assert 0.92 <= covered <= 0.98


@pytest.mark.parametrize("level", [1.0, 2.0, 3.0])
@pytest.mark.parametrize("runs", [3, 10])
def test_the_limit_of_a_distance_in_errors(runs, level):
    """A mean lies beyond the limit, on either side, as often as a normal number beyond ``level``."""
    values = np.random.default_rng(runs).normal(3, 2, (DRAWS, runs))
    mean, error = mean_and_error(values)
    theory, limit, expected = np.array([3.0]), error_limit(runs, level), 2 * float(ndtr(-level))
    far = [
        distance_in_errors(m, e, theory) > limit for m, e in zip(mean[:, None], error[:, None], strict=True)
    ]
    assert np.mean(far) == pytest.approx(expected, abs=four_errors(expected, DRAWS))


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_the_bootstrap_interval_of_a_median(level):
    """Of 41 values, where percentiles are off by some hundredths (Efron & Tibshirani 1993, section 13)."""
    values = np.sort(np.random.default_rng(1).normal(0, 1, (1000, 41)), -1)
    ends = [bootstrap_interval(own, lambda x: np.median(x, axis=-1), level) for own in values]
    covered = sum(low <= 0 <= high for low, high in ends) / len(values)
    assert covered == pytest.approx(level, abs=0.03 + four_errors(level, len(values)))
