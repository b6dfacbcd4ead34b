"""The forward-difference form: exact on quadratics, first order on smooth networks, another on ReLU."""

import pytest
import torch

from sgdlit.foundations.errors import UserError
from sgdlit.models import MLP, DeepLinear
from sgdlit.objectives import LOSSES, ExactPenalty, FiniteDifferencePenalty

CROSS_ENTROPY = LOSSES["cross_entropy"]


def flat_gradient(objective, network, x, y, strength, loss=CROSS_ENTROPY):
    found = objective(network, loss, x, y, strength)
    return torch.cat([g.flatten() for g in torch.autograd.grad(found.loss, list(network.parameters()))])


def problem(activation, dtype=torch.float64):
    torch.manual_seed(0)
    network = MLP([6, 32, 32, 4], activation=activation).to(dtype)
    return network, torch.randn(16, 6, dtype=dtype), torch.randint(4, (16,))


@pytest.mark.parametrize("delta", [1e-3, 1.0])
def test_quadratic_has_the_closed_form_at_every_delta(delta):
    """Linear regression, C = ½ mean (aᵀw - y)²: g + λ/2 H g with H = AᵀA/N."""
    torch.manual_seed(0)
    network = DeepLinear([5, 1]).double()
    A, y = torch.randn(8, 5, dtype=torch.float64), torch.randn(8, dtype=torch.float64)
    w = network.weights[0].detach()[0]
    g = A.T @ (A @ w - y) / 8
    expected = g + 0.3 / 2 * A.T @ (A @ g) / 8
    found = flat_gradient(
        FiniteDifferencePenalty(delta=delta), network, A, y, 0.3, LOSSES["half_squared_error"]
    )
    assert torch.allclose(found, expected, rtol=1e-10)


def test_smooth_network_error_is_first_order_in_delta():
    network, x, y = problem("gelu")
    exact = flat_gradient(ExactPenalty(), network, x, y, 1.0)
    errors = [
        (flat_gradient(FiniteDifferencePenalty(delta=d), network, x, y, 1.0) - exact).norm() / exact.norm()
        for d in (1e-2, 1e-3, 1e-4)
    ]
    assert errors[2] < 1e-4
    assert errors[0] / errors[1] == pytest.approx(10, rel=0.2)
    assert errors[1] / errors[2] == pytest.approx(10, rel=0.2)


def test_it_is_another_regularizer_for_relu():
    """What the documentation warns of: a step across kinks does not see the almost-everywhere Hessian."""
    torch.manual_seed(0)
    network = MLP([20, 512, 512, 4]).double()
    x, y = torch.randn(32, 20, dtype=torch.float64), torch.randint(4, (32,))
    plain = flat_gradient(ExactPenalty(), network, x, y, 0.0)
    exact = flat_gradient(ExactPenalty(), network, x, y, 1.0) - plain
    differenced = flat_gradient(FiniteDifferencePenalty(delta=1e-2), network, x, y, 1.0) - plain
    assert (differenced - exact).norm() > 0.1 * exact.norm()


@pytest.mark.parametrize("cache_enabled", [False, True])
def test_autocast_reads_the_perturbed_parameters(cache_enabled):
    """A stale cast of the weights would make the difference exactly 0."""
    network, x, y = problem("gelu", torch.float32)
    expected = flat_gradient(ExactPenalty(), network, x, y, 4.0)
    plain = flat_gradient(ExactPenalty(), network, x, y, 0.0)
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=cache_enabled):
        found = flat_gradient(FiniteDifferencePenalty(delta=0.3), network, x, y, 4.0)
    assert (found - expected).norm() < 0.3 * (expected - plain).norm()


def test_zero_gradient_gives_a_zero_penalty():
    network = DeepLinear([3, 1]).double()
    x = torch.randn(4, 3, dtype=torch.float64)
    y = network(x).detach()[:, 0]
    found = flat_gradient(FiniteDifferencePenalty(), network, x, y, 1.0, LOSSES["half_squared_error"])
    assert torch.equal(found, torch.zeros(3, dtype=torch.float64))


def test_a_frozen_parameter_takes_no_part():
    network, x, y = problem("gelu")
    network.layers[1].weight.requires_grad_(False)
    found = FiniteDifferencePenalty(delta=1e-6)(network, CROSS_ENTROPY, x, y, 0.5)
    exact = ExactPenalty()(network, CROSS_ENTROPY, x, y, 0.5)
    trainable = [p for p in network.parameters() if p.requires_grad]
    pairs = zip(
        torch.autograd.grad(found.loss, trainable), torch.autograd.grad(exact.loss, trainable), strict=True
    )
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in pairs)


@pytest.mark.parametrize("delta", [0.0, -1.0])
def test_wrong_delta_is_named(delta):
    with pytest.raises(UserError, match="delta"):
        FiniteDifferencePenalty(delta=delta)
