"""The local learning coefficient of a degenerate minimum, over long chains."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sgdlit.measures import learning_coefficient
from sgdlit.models.quadratic import Quadratic
from sgdlit.objectives import loss_by_name

OUTPUT = loss_by_name("network_output")


class Product(nn.Module):
    """½(xy)² of two parameters, at 0: a crossing of two valleys."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(2, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return 0.5 * (self.w[0] * self.w[1]).square().expand(len(x))


def batches(count: int, width: int) -> list[tuple[Tensor, Tensor]]:
    return [(torch.zeros(count, width, dtype=torch.float64), torch.zeros(count))]


def test_of_a_regular_minimum_it_is_half_of_the_parameters():
    """P = 8 curvatures between 0.5 and 2: 4 up to 10 %, with γ ≪ nβh and ηnβh ≪ 1."""
    network = Quadratic(8, np.linspace(0.5, 2, 8).tolist()).double()
    nn.init.zeros_(network.theta)
    found = learning_coefficient(network, OUTPUT, batches(100, 8), 2e-3, 0.01, 2000, 200)
    assert found.value == pytest.approx(4, rel=0.1)


def test_where_two_valleys_cross_it_is_the_integral():
    """½(xy)²: ½ as nβ/γ² grows, from below as 1/ln, since two valleys meet; here the integral itself, 0.163
    (0.35 at γ = 1, where a chain forgets its start after thousands of steps)."""
    n, gamma = 1000, 10.0
    heat = n / math.log(n)
    grid = np.linspace(-6, 6, 4001)
    cost = 0.5 * np.multiply.outer(grid, grid) ** 2
    weight = np.exp(-heat * cost - gamma / 2 * np.add.outer(grid**2, grid**2))
    expected = heat * (cost * weight).sum() / weight.sum()
    found = learning_coefficient(Product(), OUTPUT, batches(n, 1), 2e-3, gamma, 6000, 500, chains=8)
    error = float(found.each.std()) / 8**0.5
    assert error < 0.02
    assert found.value == pytest.approx(expected, abs=4 * error)
