"""The local learning coefficient against P/2; tests/long has a degenerate minimum."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sgdlit.foundations.errors import UserError
from sgdlit.measures import learning_coefficient, potential_scale_reduction
from sgdlit.models.quadratic import Quadratic
from sgdlit.objectives import loss_by_name

OUTPUT = loss_by_name("network_output")


def batches(count: int, width: int) -> list[tuple[Tensor, Tensor]]:
    return [(torch.zeros(count, width, dtype=torch.float64), torch.zeros(count))]


def test_of_a_regular_minimum_it_is_half_of_the_parameters():
    """With discrete steps a curvature h counts ½·nβh/c/(1 − ηc/4), c = nβh + γ: exactly, and ½ for small η
    and γ. Here it is 4.6, and P/2 = 4."""
    n, eta, gamma = 100, 0.02, 0.1
    curvatures = np.linspace(0.5, 2, 8)
    network = Quadratic(8, curvatures.tolist()).double()
    nn.init.zeros_(network.theta)
    heat = n / math.log(n)
    speed = heat * curvatures + gamma
    exact = float((0.5 * heat * curvatures / speed / (1 - eta * speed / 4)).sum())
    assert exact == pytest.approx(4, rel=0.2)
    found = learning_coefficient(network, OUTPUT, batches(n, 8), eta, gamma, 200, 20)
    assert found.value == pytest.approx(exact, rel=0.1)
    assert found.low < found.value < found.high
    assert found.mixing < 1.1


def test_the_same_keys_give_the_same_numbers_and_the_network_stays():
    network = Quadratic(3, [1.0, 0.5, 0.25]).double()
    before = network.theta.detach().clone()
    given = (network, OUTPUT, batches(20, 3))
    one, again, other = (learning_coefficient(*given, 1e-3, 1.0, 8, 2, seed=s).each for s in (0, 0, 1))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert len(set(one.tolist())) == 4, "chains have their own keys"
    assert torch.equal(network.theta.detach(), before)
    parts = learning_coefficient(*given, 1e-3, 1.0, 8, 2, batch_size=20).each
    assert len(parts) == 4


def test_chains_that_do_not_meet_are_told():
    generator = torch.Generator().manual_seed(0)
    draws = torch.randn(4, 400, generator=generator, dtype=torch.float64)
    assert potential_scale_reduction(draws) == pytest.approx(1, abs=0.02)
    apart = draws + torch.arange(4).unsqueeze(1)
    halves = apart.reshape(8, 200)
    exact = (199 / 200 + float(halves.mean(1).var()) / float(halves.var(1).mean())) ** 0.5
    assert potential_scale_reduction(apart) == pytest.approx(exact, rel=1e-12)
    assert exact > 1.3


def test_what_is_not_possible_is_refused():
    network = Quadratic(2, [1.0, 1.0]).double()
    for given, word in (
        ({"chains": 3}, "chains: 3 is not possible; allowed: 4, 5, 6 and so on"),
        ({"step_size": 0.0}, "step_size: 0.0 is not possible"),
        ({"localisation": -1.0}, "localisation: -1.0 is not possible"),
        ({"steps": 0}, "steps: 0 is not possible"),
        ({"step_size": 1e6, "steps": 100}, "4 of 4 chains diverged; allowed: a smaller one"),
    ):
        with pytest.raises(UserError, match=word):
            learning_coefficient(network, OUTPUT, batches(10, 2), **given)
