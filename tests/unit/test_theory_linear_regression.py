"""Linear regression, Kaczmarz, interpolation, momentum, online convex: against moments taken another way."""

import math

import numpy as np
import pytest
from scipy.integrate import quad

from sgdlit.data.spectra import power_law
from sgdlit.foundations.errors import UserError
from sgdlit.theory import kidambi
from sgdlit.theory.interpolation import Interpolation
from sgdlit.theory.linear_regression import (
    GaussianRegression,
    gradient_covariance,
    largest_stable_lr,
    simulate_regression,
)
from sgdlit.theory.online_convex import best_lr, mean_absolute_coordinate, regret_bound, simulate_stream
from sgdlit.theory.randomized_kaczmarz import contraction, kaczmarz, proximal_step


def test_gradient_covariance_by_gauss_hermite_quadrature():
    """F10 in two dimensions, integrated exactly: the gradient is a polynomial of degree 2."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(8)
    weights = weights / weights.sum()
    sigma, delta, variance = np.array([[2.0, 0.6], [0.6, 1.0]]), np.array([0.7, -1.3]), 0.4
    root = np.linalg.cholesky(sigma)
    first, second = np.zeros(2), np.zeros((2, 2))
    for i, wi in zip(nodes, weights, strict=True):
        for j, wj in zip(nodes, weights, strict=True):
            for n, wn in zip(nodes, weights, strict=True):
                x = root @ np.array([i, j])
                g = -(x @ delta + math.sqrt(variance) * n) * x
                first += wi * wj * wn * g
                second += wi * wj * wn * np.outer(g, g)
    expected = second - np.outer(first, first)
    np.testing.assert_allclose(gradient_covariance(sigma, delta, variance), expected, rtol=1e-12)


@pytest.mark.parametrize("exponent", [0.0, 1.0])
@pytest.mark.parametrize("variance", [0.0, 0.5])
def test_risk_is_the_matrix_recursion(exponent, variance):
    """E δδᵀ step by step as a full matrix, by Isserlis' theorem."""
    lam, batch = power_law(4, exponent), 3
    lr = 0.6 * largest_stable_lr(lam, batch)
    sigma, moment = np.diag(lam), np.outer([1.0, -2, 0.5, 1], [1.0, -2, 0.5, 1])
    model, risks = GaussianRegression(lam, lr, batch, variance), []
    start = np.diag(moment).copy()
    for _ in range(60):
        risks.append(0.5 * np.trace(sigma @ moment))
        pulled = sigma @ moment @ sigma
        squared = (1 + 1 / batch) * pulled + (np.trace(sigma @ moment) + variance) / batch * sigma
        moment = moment - lr * (sigma @ moment + moment @ sigma) + lr**2 * squared
    np.testing.assert_allclose(model.risk(start, range(60)), risks, rtol=1e-10)


def test_risk_within_four_standard_errors_of_simulation():
    model = GaussianRegression(power_law(6, 1.0), 0.2, 2, 0.3)
    simulated = simulate_regression(model, np.ones(6), 30, 2000, seed=0)
    error = simulated.std(1, ddof=1) / math.sqrt(2000)
    assert (np.abs(simulated.mean(1) - model.risk(np.ones(6), range(31)))[1:] < 4 * error[1:]).all()


def test_stability_limit_separates_bounded_from_divergent():
    lam = power_law(5, 1.0)
    limit = largest_stable_lr(lam, 2)
    assert GaussianRegression(lam, limit * (1 - 1e-6), 2).is_stable()
    above = GaussianRegression(lam, limit * (1 + 1e-6), 2)
    assert not above.is_stable()
    with pytest.raises(UserError, match="the largest stable rate is"):
        above.risk(np.ones(5), [1])
    # One direction, any batch size: 1 − 2αλ + α²(1 + 2/B)λ² = 1.
    assert largest_stable_lr(np.array([3.0]), 4) == pytest.approx(2 / (3 * 1.5), rel=1e-12)


def test_kaczmarz_is_the_limit_of_the_proximal_step():
    w, row, target = np.array([0.3, -1.0, 2.0]), np.array([1.0, 2.0, -0.5]), 0.7
    projected = w + (target - w @ row) / (row @ row) * row
    np.testing.assert_allclose(proximal_step(w, row, target, np.inf), projected, rtol=1e-15)
    eta = 0.4
    v = proximal_step(w, row, target, eta)
    np.testing.assert_allclose((v @ row - target) * row + (v - w) / eta, 0, atol=1e-14)  # stationarity


def test_one_kaczmarz_step_has_the_mean_of_all_rows():
    """E‖w_1 − w_*‖² = ‖e‖² − ‖Ae‖²/‖A‖_F² exactly, for rows drawn ∝ ‖a_i‖²."""
    rng = np.random.default_rng(0)
    rows, error = rng.normal(size=(6, 3)) * np.arange(1, 7)[:, None], rng.normal(size=3)
    squares = kaczmarz(rows, rows @ np.zeros(3), error, np.zeros(3), 1, 40_000, seed=0)
    exact = error @ error - ((rows @ error) ** 2).sum() / (rows**2).sum()
    standard_error = squares[1].std(ddof=1) / 200
    assert abs(squares[1].mean() - exact) < 4 * standard_error
    assert exact <= contraction(rows) * (error @ error)


def test_interpolation_factor_is_the_enumeration_of_all_minibatches():
    rng = np.random.default_rng(1)
    problem = Interpolation(rng.normal(size=(5, 2)))
    lr, step = 0.3, np.zeros((4, 4))
    for i in range(5):
        for j in range(5):  # minibatches of 2 with replacement
            x = problem.inputs[[i, j]]
            update = np.eye(2) - lr / 2 * x.T @ x
            step += np.kron(update, update) / 25
    exact = np.abs(np.linalg.eigvals(step)).max()
    assert problem.exact_factor(2, lr) == pytest.approx(exact, rel=1e-12)
    for b in (1, 4, 64):
        assert problem.exact_factor(b, problem.best_lr(b)) <= problem.bound(b)
        assert problem.best_exact(b)[1] <= problem.exact_factor(b, problem.best_lr(b))
    with pytest.raises(UserError, match="rank is too low"):
        Interpolation(np.ones((5, 2)))


STEPS = {
    "sgd": kidambi.sgd_step(0.3),
    "heavy ball": kidambi.heavy_ball_step(0.3, 0.6),
    "nesterov": kidambi.nesterov_step(0.3, 0.6),
    "accelerated": kidambi.accelerated_step(0.2, 9.0, 3.0),
}


@pytest.mark.parametrize("name", STEPS)
def test_rate_of_the_discrete_instance_by_enumeration_of_its_inputs(name):
    """z² is c with probability 2/c, else 0, so E z² = 2 and E z⁴ = 2c; half of the time no input."""
    problem, step = kidambi.Discrete(7.0, 4.0), STEPS[name]
    radii = []
    for square in (1.0, 1 / 7):
        drawn, p = step(4.0 * square), 0.5 * 2 / 4.0
        second = p * np.kron(drawn, drawn) + (1 - p) * np.kron(step(0.0), step(0.0))
        radii.append(np.abs(np.linalg.eigvals(second)).max())
    assert problem.rate(step) == pytest.approx(max(radii), rel=1e-10)


def test_steps_are_the_updates_as_written():
    lr, beta, k, w, v = 0.3, 0.6, 0.8, 1.3, -0.4
    velocity = beta * v - lr * k * w  # v = −lr·b
    found = kidambi.heavy_ball_step(lr, beta)(k) @ [w, -v / lr]
    np.testing.assert_allclose(found, [w + velocity, -velocity / lr])
    velocity = beta * v - lr * k * (w + beta * v)  # torch's iterate is w + βv
    found = kidambi.nesterov_step(lr, beta)(k) @ [w + beta * v, -v / lr]
    np.testing.assert_allclose(found, [w + velocity + beta * velocity, -velocity / lr])
    delta, kappa, xi, c, average = 0.2, 9.0, 3.0, 0.7, 0.5
    b = xi * c**2 / kappa
    new = b * ((1 / b - 1) * average - delta * kappa / c * k * w + w)
    moved = c / (c + b) * (w - delta * k * w) + b / (c + b) * new
    np.testing.assert_allclose(kidambi.accelerated_step(delta, kappa, xi)(k) @ [w, average], [moved, new])


def test_online_convex_quantities():
    assert regret_bound(3.0, 2.0, 9) == 2.0
    distance, bound, steps = 3.0, 2.0, 9
    lr = best_lr(distance, bound, steps)
    assert distance**2 / (2 * steps * lr) + lr * bound**2 / 2 == pytest.approx(
        regret_bound(distance, bound, steps)
    )
    density = [
        quad(lambda t: abs(t) * (1 - t * t) ** 0.5, -1, 1)[0],
        quad(lambda t: (1 - t * t) ** 0.5, -1, 1)[0],
    ]
    assert mean_absolute_coordinate(4) == pytest.approx(density[0] / density[1], rel=1e-9)
    losses = simulate_stream(5, 2.0, 50, 100, seed=0)
    assert losses.shape == (100,)
    assert losses.mean() <= regret_bound(2.0, 1.0, 50)


def test_bad_input_is_named():
    with pytest.raises(UserError, match="spectrum holds 0"):
        GaussianRegression([1.0, 0.0], 0.1, 1)
    with pytest.raises(UserError, match="label_variance = -1"):
        gradient_covariance(np.eye(2), np.ones(2), -1)
    with pytest.raises(UserError, match="lr = 0"):
        GaussianRegression([1.0], 0, 1)
    with pytest.raises(UserError, match=r"condition = 0\.5"):
        kidambi.Discrete(0.5)
    with pytest.raises(UserError, match="steps = 0"):
        regret_bound(1.0, 1.0, 0)
