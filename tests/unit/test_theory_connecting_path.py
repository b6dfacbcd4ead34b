"""The path between two mean-field networks: its corners, its highest point, and the network it is made of."""

import pytest
import torch

from sgdlit.foundations.errors import UserError
from sgdlit.models.mean_field import MeanField
from sgdlit.theory.connecting_path import Neurons, along, between, corners


def networks(count=8, d=3):
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return [Neurons(drawn(count, d), drawn(count), drawn(count)) for _ in range(2)], drawn(50, d), drawn(50)


def loss(network, x, y):
    return float((network.output(x) - y).square().mean())


def test_outputs_are_those_of_the_network():
    (first, _), x, _ = networks()
    network = MeanField(3, 8).double()
    with torch.no_grad():
        for p, q in zip((network.w, network.b, network.a), first, strict=True):
            p.copy_(q)
    torch.testing.assert_close(first.output(x), network(x).squeeze(1), rtol=0, atol=1e-14)


def test_the_corners_are_the_networks_and_their_halves():
    (first, second), x, y = networks()
    values = [loss(corner, x, y) for corner in corners(first, second)]
    a, half_a, half_c, c = (loss(n, x, y) for n in (first, first.first(4), second.first(4), second))
    assert values == pytest.approx([a, half_a, half_a, half_c, half_c, half_c, half_c, c], rel=1e-12)


def test_the_highest_point_is_a_corner():
    (first, second), x, y = networks()
    points = corners(first, second)
    path = [loss(n, x, y) for n in along(points, 20)]
    assert len(path) == 7 * 20 + 1
    assert max(path) == pytest.approx(max(loss(n, x, y) for n in points), rel=1e-12)
    straight = [loss(between(first, second, k / 20), x, y) for k in range(21)]
    assert straight[0] == pytest.approx(path[0])
    assert straight[-1] == pytest.approx(path[-1])


def test_networks_that_cannot_be_joined_are_refused():
    (first, second), *_ = networks(count=7)
    with pytest.raises(UserError, match="N even"):
        corners(first, second)
