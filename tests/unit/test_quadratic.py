"""The noisy quadratic as a network: its cost, its gradient, and what it refuses."""

import pytest
import torch
from torch.func import functional_call, grad, vmap

from sgdlit.foundations.errors import UserError
from sgdlit.models.quadratic import Quadratic
from sgdlit.objectives import LOSSES

COST = LOSSES["network_output"]


def test_cost_and_gradient_are_those_of_the_model():
    """½ Σ h θ² + eᵀθ per example, and Hθ + ē of a minibatch."""
    network = Quadratic(3, [2.0, 0.5, 0.25]).double()
    h, theta = network.curvatures, network.theta
    noise = torch.tensor([[1.0, -2.0, 0.5], [0.0, 0.0, 0.0]]).double()
    costs = COST.per_example(network(noise), torch.zeros(2))
    assert costs[1].item() == pytest.approx((0.5 * h * theta**2).sum().item(), rel=1e-15)
    assert (costs[0] - costs[1]).item() == pytest.approx((noise[0] @ theta).item(), rel=1e-12)
    (gradient,) = torch.autograd.grad(COST(network(noise), torch.zeros(2)), theta)
    torch.testing.assert_close(gradient, h * theta.detach() + noise.mean(0), rtol=1e-14, atol=0)


def test_noise_that_grows_with_the_gradient_is_no_part_of_the_derivative():
    """Hθ + (a + b‖Hθ‖)ē, and the risk alone where the noise is 0."""
    network = Quadratic(3, [2.0, 0.5, 0.25], constant_noise=0.5, relative_noise=3.0).double()
    clean = network.curvatures * network.theta.detach()
    noise = torch.tensor([[1.0, -2.0, 0.5], [0.5, 0.0, 0.0]]).double()
    (gradient,) = torch.autograd.grad(COST(network(noise), torch.zeros(2)), network.theta)
    torch.testing.assert_close(gradient, clean + (0.5 + 3.0 * clean.norm()) * noise.mean(0))
    without = Quadratic(3, [2.0, 0.5, 0.25]).double()
    without.load_state_dict(network.state_dict())
    zero = torch.zeros(1, 3).double()
    assert torch.equal(network(zero), without(zero))


def test_members_of_an_ensemble_have_the_gradients_of_single_networks():
    network, noise = Quadratic(5), torch.randn(4, 2, 5)
    thetas = torch.randn(4, 5)

    def cost(theta, examples):
        return COST(functional_call(network, {"theta": theta}, (examples,)), torch.zeros(2))

    found = vmap(grad(cost))(thetas, noise)
    torch.testing.assert_close(found, network.curvatures * thetas + noise.mean(1))


def test_the_start_is_standard_normal_and_drawn_anew():
    torch.manual_seed(0)
    network = Quadratic(20_000)
    first = network.theta.detach().clone()
    assert abs(first.mean().item()) < 4 / 20_000**0.5
    assert abs(first.var().item() - 1) < 4 * (2 / 20_000) ** 0.5
    network.reset_parameters()
    assert not torch.equal(first, network.theta)
    assert list(network.state_dict()) == ["theta"]


def test_what_does_not_fit_is_named():
    for given, named in (
        ({"d": 0}, "d: 0"),
        ({"d": 2, "curvature": [1.0, 0.0]}, r"curvature: \[1.0, 0.0\] .* above 0"),
        ({"d": 2, "curvature": [1.0]}, "curvature: a list of 1"),
        ({"d": 2, "exponent": float("inf")}, "exponent = inf"),
        ({"d": 2, "relative_noise": -1.0}, "relative_noise: -1.0"),
    ):
        with pytest.raises(UserError, match=named):
            Quadratic(**given)
    with pytest.raises(UserError, match=r"data.d: noise of 3 numbers"):
        Quadratic(2)(torch.zeros(1, 3))
    with pytest.raises(UserError, match=r"one number per example, not \(2, 3\)"):
        COST.check_targets(torch.zeros(2, 3), torch.zeros(2))
