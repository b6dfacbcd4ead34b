"""The operator of mean-square stability: enumeration of batches, closed forms, and two ways to its radius."""

import itertools

import numpy as np
import pytest

from sgdlit.foundations.errors import UserError
from sgdlit.theory.draws import generator, normal_matrix
from sgdlit.theory.moment_operator import Hessians, simulate


def problem(n=4, d=3, seed=0):
    return Hessians.rank_one(normal_matrix(seed, "test", n, d))


@pytest.mark.parametrize("batch_size", [1, 2.5, 4])
def test_the_next_moment_is_the_mean_over_all_batches(batch_size):
    """Each of the 2⁴ sets of examples, weighed by its probability."""
    h, lr = problem(), 0.3
    root = normal_matrix(1, "test", 3, 3)
    moment, chance = root @ root.T, batch_size / h.count
    mean = np.zeros((3, 3))
    for chosen in itertools.product((0, 1), repeat=h.count):
        weight = np.prod([chance if c else 1 - chance for c in chosen])
        step = np.eye(3) - lr / batch_size * np.einsum("n,nab->ab", chosen, h.each)
        mean += weight * step @ moment @ step
    np.testing.assert_allclose(h.next_moment(moment, lr, batch_size), mean, rtol=1e-12)
    flat = h.matrix(lr, batch_size) @ moment.ravel()
    np.testing.assert_allclose(flat, mean.ravel(), rtol=1e-12)


def test_both_radii_agree_and_decide_growth():
    h = problem(n=6, seed=2)
    for lr in (0.1, 0.4):
        assert h.iterated_radius(lr, 2, 1e-13) == pytest.approx(h.radius(lr, 2), rel=1e-9)
    lr = h.critical_lr(2)
    assert h.radius(0.999 * lr, 2) < 1 < h.radius(1.001 * lr, 2)


def test_critical_rates_in_closed_form():
    """Full batch: 2/λ₁. One example: (1 − εh)² + ε²h²(1/B − 1) = 1 at ε = 2B/h. A flat direction changes
    nothing."""
    h = problem(n=5, seed=3)
    assert h.critical_lr(5) == pytest.approx(2 / h.sharpness, rel=1e-12)
    assert Hessians(np.full((1, 1, 1), 4.0)).critical_lr(0.25) == pytest.approx(0.125, rel=1e-12)
    flat = Hessians(np.pad(h.each, ((0, 0), (0, 2), (0, 2))))
    assert flat.critical_lr(2) == pytest.approx(h.critical_lr(2), rel=1e-12)


def test_coherence_of_equal_and_of_separate_examples():
    assert Hessians.rank_one(np.ones((5, 2))).coherence == pytest.approx(5)
    assert Hessians.rank_one(np.eye(5)).coherence == pytest.approx(1)
    h = problem()
    roots = [np.linalg.eigh(each) for each in h.each]
    halves = [v @ np.diag(np.sqrt(np.maximum(w, 0))) @ v.T for w, v in roots]
    similar = [[np.linalg.norm(a @ b) for b in halves] for a in halves]
    largest = max(w[-1] for w, _ in roots)
    assert h.coherence == pytest.approx(np.linalg.eigvalsh(similar)[-1] / largest, rel=1e-6)


def test_simulated_runs_have_the_operators_moment():
    inputs, start = normal_matrix(0, "test", 4, 3), np.ones(3)
    h, runs = Hessians.rank_one(inputs), 40_000
    w = simulate(inputs, 0.2, 2, start, runs, 3, generator(0, "test"))
    moment = np.outer(start, start)
    for _ in range(3):
        moment = h.next_moment(moment, 0.2, 2)
    squares = (w**2).sum(1)
    assert abs(squares.mean() - np.trace(moment)) < 5 * squares.std() / runs**0.5


def test_what_has_no_operator_is_refused():
    with pytest.raises(UserError, match=r"\[n, d, d\]"):
        Hessians(np.ones((2, 3)))
    with pytest.raises(UserError, match="zero"):
        Hessians(np.zeros((2, 3, 3)))
    with pytest.raises(UserError, match="batch_size = 5"):
        problem().radius(0.1, 5)
