"""The angle of an update, against a rotation by a chosen angle; and projected momentum against a library."""

import math

import numpy as np
import pytest
import torch

from sgdlit.measures.effective_step import angle, effective_steps
from sgdlit.models import MLP
from sgdlit.papers.heo2020 import tangential


@pytest.mark.parametrize("turned", [1e-9, 1e-3, 1.0, math.pi / 2, 3.0])
def test_a_rotation_by_an_angle_is_that_angle_whatever_the_lengths(turned):
    basis = torch.linalg.qr(torch.randn(12, 2, dtype=torch.float64))[0]
    w = 3 * basis[:, 0]
    rotated = 0.1 * (math.cos(turned) * basis[:, 0] + math.sin(turned) * basis[:, 1])
    assert angle(w.view(3, 4), rotated.view(3, 4)) == pytest.approx(turned, rel=1e-6)
    assert math.isnan(angle(w, torch.zeros(12)))


def test_growing_weights_without_turning_them_is_no_step():
    network = MLP([4, 3, 2])
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    after = {name: 2 * p for name, p in before.items()}
    found = effective_steps(network, before, after)
    assert found.keys() == {"layers.1.weight", "layers.3.weight"}  # biases are 0, and have no direction
    assert max(found.values()) < 1e-7


def test_projected_momentum_is_sgdp_where_gradients_are_tangential():
    """SGDP projects where |cos(w, g)| < δ/√dim, which tangential gradients always meet (Heo et al. 2020)."""
    sgdp = pytest.importorskip("pytorch_optimizer").SGDP
    generator = torch.Generator().manual_seed(0)
    w = torch.randn(1, 50, generator=generator, dtype=torch.float64)
    parameter = torch.nn.Parameter(w.clone())
    optimizer = sgdp([parameter], lr=0.1, momentum=0.9, eps=1e-300)
    own, p = w.numpy().copy(), np.zeros((1, 50))
    for _ in range(20):
        drawn = torch.randn(1, 50, generator=generator, dtype=torch.float64).numpy()
        g = tangential(drawn, own)
        p = 0.9 * p + g
        own = own - 0.1 * tangential(p, own)
        parameter.grad = torch.from_numpy(tangential(drawn, parameter.detach().numpy()))
        optimizer.step()
        np.testing.assert_allclose(parameter.detach().numpy(), own, rtol=1e-9)
