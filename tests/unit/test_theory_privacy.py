"""The accountant against numerical integration, the closed form without sampling, and its bounds."""

import math

import numpy as np
import pytest
from scipy.integrate import quad

from sgdlit.foundations.errors import UserError
from sgdlit.theory.privacy import epsilon, rdp_of_sampled_gaussian


@pytest.mark.parametrize("rate", [0.01, 0.3, 1.0])
@pytest.mark.parametrize("noise", [0.8, 2.0])
@pytest.mark.parametrize("order", [2, 5, 17])
def test_the_divergence_is_its_integral(rate, noise, order):
    """(α − 1)·D_α = log E_{x~N(0,σ²)} ((1 − q) + q·exp((2x − 1)/2σ²))^α."""

    def integrand(x):
        ratio = np.log((1 - rate) * np.exp(-(2 * x - 1) / (2 * noise**2)) + rate) + (2 * x - 1) / (
            2 * noise**2
        )
        return np.exp(order * ratio - x**2 / (2 * noise**2)) / (noise * math.sqrt(2 * math.pi))

    middle, width = order, 12 * noise
    value, _ = quad(integrand, -width, middle + width, points=[0, middle], limit=500, epsrel=1e-10)
    expected = math.log(value) / (order - 1)
    assert rdp_of_sampled_gaussian(rate, noise, order) == pytest.approx(expected, rel=1e-6, abs=1e-12)


def test_without_sampling_it_is_the_gaussian_mechanism():
    for order in (2, 64, 512):
        assert rdp_of_sampled_gaussian(1.0, 3.0, order) == pytest.approx(order / 18, rel=1e-12)


def test_the_budget_grows_with_steps_and_rate_and_falls_with_noise():
    base = epsilon(0.05, 2.0, 1000, 1e-5)[0]
    assert epsilon(0.05, 2.0, 2000, 1e-5)[0] > base
    assert epsilon(0.10, 2.0, 1000, 1e-5)[0] > base
    assert epsilon(0.05, 3.0, 1000, 1e-5)[0] < base
    assert epsilon(0.05, 2.0, 1000, 1e-6)[0] > base


@pytest.mark.parametrize(
    "bad", [(0.0, 1.0, 1, 0.1), (0.1, 0.0, 1, 0.1), (0.1, 1.0, -1, 0.1), (0.1, 1.0, 1, 1.0)]
)
def test_bad_input(bad):
    with pytest.raises(UserError, match="allowed"):
        epsilon(*bad)
