"""Heavy tails: α-stable numbers by their characteristic function, the tail index, Hill's estimate."""

import math

import numpy as np
import pytest

from sgdlit.foundations.errors import UserError
from sgdlit.theory.draws import generator
from sgdlit.theory.heavy_tails import (
    contraction_norms,
    hill,
    noisy_descent_gap,
    stable_noise,
    stationary_mean,
    stationary_norms,
    tail_index,
)


@pytest.mark.parametrize("alpha", [0.7, 1.0, 1.3, 2.0])
def test_stable_noise_has_its_characteristic_function(alpha):
    """E cos(tX) = e^(−|t|^α), E sin(tX) = 0, within 5 standard errors."""
    x = stable_noise(alpha, (200_000,), generator(0, f"test {alpha}"))
    for t in (0.3, 1.0, 2.0):
        for wave, expected in ((np.cos(t * x), math.exp(-(t**alpha))), (np.sin(t * x), 0.0)):
            assert abs(wave.mean() - expected) < 5 * wave.std() / math.sqrt(len(x))


def test_hills_index_of_a_pareto_law():
    """P(s > x) = x^(−α): the estimate from k values has relative error 1/√k."""
    uniform = generator(0, "test Pareto").random(100_000)
    for alpha in (1.0, 2.5):
        assert hill(uniform ** (-1 / alpha), 0.02) == pytest.approx(alpha, rel=5 / math.sqrt(2000))
    with pytest.raises(UserError, match="share"):
        hill(uniform, 0.0)


@pytest.mark.parametrize(("d", "batch_size"), [(10, 1), (10, 2), (4, 3)])
def test_the_tail_index_is_2_where_the_variance_ceases_to_exist(d, batch_size):
    """E‖(I − (ε/B)Σxxᵀ)e‖² = 1 − 2ε + ε²(d + B + 1)/B is 1 at ε = 2B/(d + B + 1)."""
    assert tail_index(d, 2 * batch_size / (d + batch_size + 1), batch_size) == pytest.approx(2, abs=1e-8)


def test_the_tail_index_solves_its_equation_in_draws_too():
    alpha = tail_index(10, 0.16, 1)
    powers = contraction_norms(10, 0.16, 1, 1_000_000, generator(0, "test")) ** (alpha / 2)
    exact = tail_index(10, 0.16, 1)
    assert exact == alpha
    matrix = generator(1, "test").standard_normal((200_000, 10))
    first = matrix[:, :1]
    direct = np.linalg.norm(np.eye(10)[0] - 0.16 * first * matrix, axis=1) ** (alpha / 2)
    error = math.hypot(powers.std() / 1000, direct.std() / math.sqrt(200_000))
    assert abs(powers.mean() - direct.mean()) < 5 * error
    with pytest.raises(UserError, match="no stationary law"):
        tail_index(10, 1.0, 1)
    with pytest.raises(UserError, match="above 100"):
        tail_index(10, 1e-3, 1)


def test_the_chain_of_norms_is_that_of_the_weights():
    """Two steps of w ← w − (ε/B) Σ x(x·w − y) with vectors drawn: the same law of ‖w‖."""
    d, lr, batch_size, runs = 5, 0.3, 2, 100_000
    draw = generator(0, "test vectors")
    w = np.zeros((runs, d))
    for _ in range(2):
        x, y = draw.standard_normal((runs, batch_size, d)), draw.standard_normal((runs, batch_size))
        w = w - lr / batch_size * np.einsum("rb,rbd->rd", np.einsum("rbd,rd->rb", x, w) - y, x)
    chain = stationary_norms(d, lr, batch_size, runs, 2, 1, 1, generator(0, "test norms"))[0]
    for f in (np.abs, np.sqrt, lambda n: n > 0.5, lambda n: n > 1.5):
        one, other = f(np.linalg.norm(w, axis=1)), f(chain)
        error = math.hypot(one.std(), other.std()) / math.sqrt(runs)
        assert abs(one.mean() - other.mean()) < 5 * error


def test_the_stationary_mean_under_stable_noise():
    """One direction: E|w| by simulation, and at α = 2 that of N(0, 2s²)."""
    lr, curvature, noise = 0.1, 2.0, 0.4
    scale = noise * math.sqrt(lr / (1 - (1 - lr * curvature) ** 2))
    normal = math.sqrt(2 / math.pi) * math.sqrt(2) * scale
    assert stationary_mean(curvature, lr, noise, 2.0) == pytest.approx(normal, rel=1e-12)
    draw, w = generator(0, "test descent"), np.zeros(200_000)
    for _ in range(60):
        w = (1 - lr * curvature) * w + lr ** (1 / 1.8) * noise * stable_noise(1.8, w.shape, draw)
    assert np.abs(w).mean() == pytest.approx(stationary_mean(curvature, lr, noise, 1.8), rel=0.02)


def test_the_gap_of_one_direction_in_closed_form():
    """n = d = 1, α = 2: E|r|_test − E|r|_train = (√(2/π) − |x|)·E|w| with curvature x²."""
    x, lr, noise = 0.6, 0.5, 0.3
    gap = noisy_descent_gap(np.array([[x]]), lr, noise, (2.0,), 4000, 200, 100, 10, generator(0, "test"), 1.0)
    expected = (math.sqrt(2 / math.pi) - x) * stationary_mean(x * x, lr, noise, 2.0)
    assert gap[0] == pytest.approx(expected, rel=0.03)
