"""Adaptive sharpness against the closed forms of a quadratic, and against a rescaling of neurons."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sgdlit.foundations.errors import UserError
from sgdlit.measures import average_sharpness, worst_case_sharpness
from sgdlit.models import MLP
from sgdlit.models.quadratic import Quadratic
from sgdlit.objectives import CrossEntropy, loss_by_name

CURVATURES = [4.0, 1.0, 0.5, 0.125]
THETA = torch.tensor([0.5, -1.0, 2.0, -3.0], dtype=torch.float64)
OUTPUT = loss_by_name("network_output")


def quadratic() -> tuple[Quadratic, list[tuple[Tensor, Tensor]]]:
    """½Σ h_i θ_i²."""
    network = Quadratic(4, CURVATURES).double()
    network.theta.data.copy_(THETA)
    return network, [(torch.zeros(3, 4, dtype=torch.float64), torch.zeros(3))]


def test_the_average_is_that_of_a_quadratic():
    """E[½Σh(θ + ρ|θ|z)²] − ½Σhθ² = ½ρ²Σhθ²; its interval holds it in 95 % of 60 repetitions."""
    network, batches = quadratic()
    exact = 0.5 * 0.3**2 * float((torch.tensor(CURVATURES, dtype=torch.float64) * THETA.square()).sum())
    found = [average_sharpness(network, OUTPUT, batches, 0.3, 12, seed).mean for seed in range(60)]
    share = np.mean([one.low <= exact <= one.high for one in found])
    assert share == pytest.approx(0.95, abs=0.085), "three standard errors"
    error = np.std([one.value for one in found]) / 60**0.5
    assert np.mean([one.value for one in found]) == pytest.approx(exact, abs=4 * error)
    assert torch.equal(network.theta.detach(), THETA)


@pytest.mark.parametrize("steps", [1, 7])
def test_the_worst_case_of_a_quadratic_is_found(steps):
    """Σhθ²(ρ + ½ρ²), at the corner where every |θ_i| grows."""
    network, batches = quadratic()
    exact = (0.3 + 0.5 * 0.3**2) * float((torch.tensor(CURVATURES, dtype=torch.float64) * THETA**2).sum())
    assert worst_case_sharpness(network, OUTPUT, batches, 0.3, steps) == pytest.approx(exact, rel=1e-12)


def network_and_batches() -> tuple[nn.Module, list[tuple[Tensor, Tensor]]]:
    torch.manual_seed(0)
    network = MLP([4, 6, 3]).double()
    x = torch.randn(20, 4, dtype=torch.float64)
    return network, [(x[:12], torch.arange(12) % 3), (x[12:], torch.arange(8) % 3)]


def test_a_rescaled_neuron_changes_nothing():
    """Of ReLU networks: weights into a neuron times 3, out of it over 3."""
    network, batches = network_and_batches()
    before = average_sharpness(network, CrossEntropy(), batches, draws=4).draws
    worst = worst_case_sharpness(network, CrossEntropy(), batches, steps=5)
    first, last = (m for m in network.modules() if isinstance(m, nn.Linear))
    with torch.no_grad():
        first.weight[2] *= 3
        first.bias[2] *= 3
        last.weight[:, 2] /= 3
    torch.testing.assert_close(
        average_sharpness(network, CrossEntropy(), batches, draws=4).draws, before, rtol=1e-9, atol=1e-12
    )
    assert worst_case_sharpness(network, CrossEntropy(), batches, steps=5) == pytest.approx(worst, rel=1e-9)


def test_the_worst_case_is_above_every_draw_in_the_box():
    network, batches = network_and_batches()
    worst = worst_case_sharpness(network, CrossEntropy(), batches, 0.1, 10)
    draws = average_sharpness(network, CrossEntropy(), batches, 0.05, 20).draws  # |z| > 2 in 5 %
    assert worst > float(draws.max())


def test_what_is_not_possible_is_refused():
    network, batches = quadratic()
    with pytest.raises(UserError, match="radius: 0 is not possible"):
        average_sharpness(network, OUTPUT, batches, 0)
    with pytest.raises(UserError, match="draws: 0 is not possible; allowed: 1, 2, 3 and so on"):
        average_sharpness(network, OUTPUT, batches, draws=0)
    with pytest.raises(UserError, match="steps: 0 is not possible"):
        worst_case_sharpness(network, OUTPUT, batches, steps=0)
