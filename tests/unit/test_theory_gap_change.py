"""The change of the generalisation gap: second implementations by loops and autograd, and orders in ε."""

import itertools

import pytest
import torch

from sgdlit.foundations.errors import UserError
from sgdlit.theory.gap_change import fresh_against_same, gap_change, predicted, tanh_network, training_sets

K, N, LR = 4, 2, 0.05


def population(seed=0):
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.randn(K, 3, generator=generator).double(), torch.randn(K, generator=generator).double()
    return x, y, 0.7 * torch.randn(8, generator=generator).double()


def by_loops(losses, w, sets, lr):
    """w after a step on each training set of a list, one after another."""
    for chosen in sets:
        v = w.clone().requires_grad_()
        (slope,) = torch.autograd.grad(losses(v)[list(chosen)].mean(), v)
        w = w - lr * slope
    return w


def test_enumerations_against_loops():
    x, y, w = population()
    losses = tanh_network(x, y, 2)
    sets = list(itertools.product(range(K), repeat=N))
    assert training_sets(K, N).tolist() == [list(chosen) for chosen in sets]
    change = []
    for chosen in sets:
        after = losses(by_loops(losses, w, [chosen], LR))
        rows = list(chosen)
        change.append((after - losses(w)).mean() - (after[rows] - losses(w)[rows]).mean())
    assert gap_change(losses, w, N, LR) == pytest.approx(float(torch.stack(change).mean()), rel=1e-12)
    fresh = [losses(by_loops(losses, w, pair, LR)).mean() for pair in itertools.product(sets, sets)]
    same = [losses(by_loops(losses, w, [a, a], LR)).mean() for a in sets]
    expected = float(torch.stack(fresh).mean() - torch.stack(same).mean())
    assert fresh_against_same(losses, w, N, LR) == pytest.approx(expected, rel=1e-9)


def test_the_terms_of_the_expansion_on_linear_regression():
    """½(xᵀw − y)²: g_i = r_i x_i, H̄ = mean x xᵀ, ∇tr 𝒞 by finite differences."""
    x, y, _ = population()
    w = torch.tensor([0.3, -0.2, 0.5], dtype=torch.float64)

    def losses(v):
        return 0.5 * (x @ v - y) ** 2

    def trace(v):
        each = (x @ v - y)[:, None] * x
        return float((each - each.mean(0)).square().sum(1).mean())

    each = (w @ x.T - y)[:, None] * x
    apart, mean = each - each.mean(0), each.mean(0)
    covariance, curved = apart.T @ apart / K, x.T @ x / K
    h = 1e-5
    slope = 0.5 * (trace(w + h * mean) - trace(w - h * mean)) / (2 * h)
    found = predicted(losses, w)
    assert found.trace == pytest.approx(float(covariance.trace()), rel=1e-12)
    assert found.curvature == pytest.approx(float((curved @ covariance).trace()), rel=1e-12)
    assert found.slope == pytest.approx(slope, rel=1e-7)


def test_both_expansions_hold_to_their_order():
    x, y, w = population(1)
    losses = tanh_network(x, y, 2)
    terms = predicted(losses, w)
    small = 1e-4
    assert gap_change(losses, w, N, small) == pytest.approx(small / N * terms.trace, rel=1e-3)
    expected = -(small**2) / N * (terms.curvature + terms.slope)
    assert fresh_against_same(losses, w, N, small) == pytest.approx(expected, rel=1e-2)


def test_too_many_training_sets_are_refused():
    with pytest.raises(UserError, match=r"20\^5"):
        training_sets(20, 5)
