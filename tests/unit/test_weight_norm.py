"""The second derivative of the weight norm, against differences of first derivatives."""

import copy

import pytest
import torch
from second_implementation import differences
from torch import nn
from torch.nn.utils import parametrizations

from sgdlit.objectives import ExactPenalty, HalfSquaredError
from sgdlit.objectives.penalty import weight_along

LAYERS = {
    "linear": (lambda: parametrizations.weight_norm(nn.Linear(6, 3)), (6,)),
    "convolution": (lambda: parametrizations.weight_norm(nn.Conv1d(2, 3, 3, padding=1)), (2, 8)),
    "the last dimension": (lambda: parametrizations.weight_norm(nn.Linear(6, 3), dim=1), (6,)),
    "all of it": (lambda: parametrizations.weight_norm(nn.Linear(6, 3), dim=None), (6,)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_the_gradient_of_the_regularizer_is_that_of_differences(name):
    """∇(λ/4‖∇C‖²) = λ/2·H∇C; the fused formula of torch would miss it by some ten percent."""
    make, shape = LAYERS[name]
    torch.manual_seed(0)
    network = nn.Sequential(make(), nn.Tanh(), nn.Flatten()).double()
    x = torch.randn(5, *shape, dtype=torch.float64)
    y = torch.randn(network(x).shape, dtype=torch.float64)
    loss, strength = HalfSquaredError(), 0.5
    first = torch.autograd.grad(loss(network(x), y), list(network.parameters()))
    g = torch.cat([part.reshape(-1) for part in first])
    bent = differences(copy.deepcopy(network), loss, [(x, y)])(g)
    found = ExactPenalty()(network, loss, x, y, strength).loss
    gradient = torch.autograd.grad(found, list(network.parameters()))
    flat = torch.cat([part.reshape(-1) for part in gradient])
    torch.testing.assert_close(flat, g + weight_along(strength) * bent, rtol=1e-6, atol=1e-8)
