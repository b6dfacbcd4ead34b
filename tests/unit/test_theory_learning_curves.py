"""The learning curve of SGD on Gaussian features, by recursion, in closed form and simulated."""

import numpy as np
import pytest

from sgdlit.data.spectra import power_law
from sgdlit.foundations.errors import UserError
from sgdlit.theory.draws import generator
from sgdlit.theory.learning_curves import best_loss, curve_in_closed_form, learning_curve, simulate_learning


@pytest.mark.parametrize("noise", [0.0, 0.7])
def test_the_recursion_is_the_closed_form(noise):
    spectrum, power = power_law(12, 1.3), power_law(12, 0.4)
    curve = learning_curve(spectrum, power, 0.2, 3, 40, noise)
    for step in (0, 1, 7, 40):
        expected = curve_in_closed_form(spectrum, power, 0.2, 3, step, noise)
        assert curve[step] == pytest.approx(expected, rel=1e-11)


def test_several_rates_at_once_are_each_alone():
    spectrum, power = power_law(9, 1.0), power_law(9, 0.5)
    both = learning_curve(spectrum, power, np.array([0.1, 0.3]), 2, 15, 0.2)
    for k, lr in enumerate((0.1, 0.3)):
        np.testing.assert_allclose(both[:, k], learning_curve(spectrum, power, lr, 2, 15, 0.2), rtol=1e-13)


@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_simulated_runs_follow_the_curve(noise):
    spectrum, power, runs = power_law(8, 1.0), power_law(8, 0.5), 6000
    found = simulate_learning(spectrum, power, 0.15, 2, [3, 20], runs, generator(0, "test"), noise)
    exact = learning_curve(spectrum, power, 0.15, 2, 20, noise)[[3, 20]]
    assert (np.abs(found.mean(1) - exact) < 5 * found.std(1) / runs**0.5).all()


def test_the_best_rate_of_an_isotropic_stream():
    """m/(N + m + 1), with the factor 1 − m/(N + m + 1) per step."""
    n, m, steps = 20, 3, 50
    loss, lr = best_loss(np.ones(n), np.ones(n), m, steps, np.geomspace(1e-3, 1, 20))
    assert lr == pytest.approx(m / (n + m + 1), rel=1e-3)
    assert loss == pytest.approx(n * (1 - m / (n + m + 1)) ** steps, rel=1e-6)


def test_what_has_no_curve_is_refused():
    with pytest.raises(UserError, match="eigenvalues"):
        learning_curve(np.ones(3), np.ones(4), 0.1, 1, 5)
    with pytest.raises(UserError, match="batch_size = 0"):
        learning_curve(np.ones(3), np.ones(3), 0.1, 0, 5)
