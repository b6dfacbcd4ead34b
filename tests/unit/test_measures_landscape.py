"""Lines, barriers and planes against quadratics, where they are known, and what BatchNorm needs."""

import copy

import pytest
import torch
from torch import nn

from sgdlit.foundations.errors import UserError
from sgdlit.measures import (
    barrier,
    filter_normalized,
    line,
    plane,
    random_direction,
)
from sgdlit.measures.landscape import reestimated
from sgdlit.models import MLP, SimpleCNN
from sgdlit.objectives import CrossEntropy, NetworkOutput

CURVATURES = [4.0, 1.0, -0.5]


class Quadratic(nn.Module):
    """x -> ½Σhθ², also with negative curvatures h."""

    def __init__(self, theta: list[float]) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.tensor(theta, dtype=torch.float64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = torch.tensor(CURVATURES, dtype=torch.float64)
        return (0.5 * (h * self.theta.square()).sum()).expand(len(x), 1)


def parameters(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.detach() for name, p in network.named_parameters()}


BATCHES = [(torch.zeros(3, 3, dtype=torch.float64), torch.zeros(3))]


def test_a_quadratic_lies_below_its_chord_by_half_its_curvature():
    """C(θ_α) − chord = −½α(1 − α)ΔᵀHΔ."""
    one, other = Quadratic([1.0, 2.0, 0.0]), Quadratic([0.0, -1.0, 1.0])
    found = line(one, NetworkOutput(), BATCHES, parameters(one), parameters(other), points=11)
    delta = torch.tensor([-1.0, -3.0, 1.0], dtype=torch.float64)
    bend = float(delta @ (torch.tensor(CURVATURES, dtype=torch.float64) * delta))
    chord = (1 - found.alphas) * found.costs[0] + found.alphas * found.costs[-1]
    expected = -0.5 * found.alphas * (1 - found.alphas) * bend
    torch.testing.assert_close(found.costs - chord, expected, rtol=1e-12, atol=1e-13)
    assert found.barrier == 0
    assert found.errors.isnan().all()


def test_a_direction_of_negative_curvature_has_a_barrier():
    one, other = Quadratic([0.0, 0.0, 1.0]), Quadratic([0.0, 0.0, -1.0])
    found = barrier(one, NetworkOutput(), BATCHES, parameters(one), parameters(other), points=5)
    assert found == pytest.approx(0.5 * 0.25 * 0.5 * 4, rel=1e-12)


def test_two_equal_points_have_none():
    torch.manual_seed(0)
    network = MLP([4, 6, 3])
    batches = [(torch.randn(9, 4), torch.randint(3, (9,)))]
    found = line(network, CrossEntropy(), batches, parameters(network), parameters(network), points=5)
    assert found.barrier == pytest.approx(0, abs=1e-6)
    assert found.error_barrier == 0


def test_errors_and_costs_of_the_ends_are_those_of_the_networks():
    torch.manual_seed(0)
    one, other = MLP([4, 6, 3]), MLP([4, 6, 3])
    x, y = torch.randn(9, 4), torch.randint(3, (9,))
    batches, before = [(x[:4], y[:4]), (x[4:8], y[4:8]), (x[8:], y[8:])], copy.deepcopy(one.state_dict())
    found = line(one, CrossEntropy(), batches, parameters(one), parameters(other), points=2)
    for k, network in enumerate((one, other)):
        with torch.no_grad():
            outputs = network(x)
        assert float(found.costs[k]) == pytest.approx(float(CrossEntropy()(outputs, y)), rel=1e-6)
        assert float(found.errors[k]) == pytest.approx(float((outputs.argmax(1) != y).float().mean()))
    assert all(torch.equal(before[name], value) for name, value in one.state_dict().items())


def with_batchnorm(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3)).double().eval()
    network[1].running_mean.normal_()
    network[1].running_var.uniform_(0.5, 1.5)
    return network


def test_statistics_are_estimated_anew_at_each_point():
    """As means over the batches, weighted by their sizes; afterwards they are the old ones."""
    network, other = with_batchnorm(0), with_batchnorm(1)
    x, y = torch.randn(10, 4, dtype=torch.float64), torch.randint(3, (10,))
    batches = [(x[:5], y[:5]), (x[5:8], y[5:8]), (x[8:], y[8:])]
    before = copy.deepcopy(network.state_dict())
    with reestimated(network, batches):
        inside = [network[0](part).detach() for part, _ in batches]
        mean = sum(len(part) * part.mean(0) for part in inside) / 10
        variance = sum(len(part) * part.var(0) for part in inside) / 10
        torch.testing.assert_close(network[1].running_mean, mean)
        torch.testing.assert_close(network[1].running_var, variance)
        assert not network[1].training
    found = [
        line(network, CrossEntropy(), batches, parameters(network), parameters(other), 3, again)
        for again in (False, True)
    ]
    half = copy.deepcopy(network)
    for p, q in zip(half.parameters(), other.parameters(), strict=True):
        p.data.lerp_(q.data, 0.5)
    with torch.no_grad():
        assert float(found[0].costs[1]) == pytest.approx(float(CrossEntropy()(half(x), y)), rel=1e-12)
        for layer in half.modules():
            if isinstance(layer, nn.BatchNorm1d):
                own = [half[0](part) for part, _ in batches]
                layer.running_mean = sum(len(part) * part.mean(0) for part in own) / 10
                layer.running_var = sum(len(part) * part.var(0) for part in own) / 10
        assert float(found[1].costs[1]) == pytest.approx(float(CrossEntropy()(half(x), y)), rel=1e-12)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_a_plane_is_the_cost_there():
    network = Quadratic([1.0, 2.0, 3.0])
    u = {"theta": torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)}
    v = {"theta": torch.tensor([0.0, 1.0, 1.0], dtype=torch.float64)}
    found = plane(network, NetworkOutput(), BATCHES, u, v, [-1.0, 0.5], [0.0, 2.0, 3.0])
    h = torch.tensor(CURVATURES, dtype=torch.float64)
    for i, a in enumerate((-1.0, 0.5)):
        for j, b in enumerate((0.0, 2.0, 3.0)):
            there = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64) + a * u["theta"] + b * v["theta"]
            assert float(found[i, j]) == pytest.approx(float(0.5 * (h * there**2).sum()), rel=1e-12)
    assert network.theta.tolist() == [1.0, 2.0, 3.0]


def test_directions_have_the_norms_of_filters():
    torch.manual_seed(0)
    network = SimpleCNN()
    drawn = random_direction(network, seed=3)
    assert all(torch.equal(part, random_direction(network, 3)[name]) for name, part in drawn.items())
    assert not torch.equal(next(iter(drawn.values())), next(iter(random_direction(network, 3, 1).values())))
    for name, part in filter_normalized(network, drawn).items():
        weight = dict(network.named_parameters())[name].detach()
        if weight.dim() < 2:
            assert not part.any()
        else:
            torch.testing.assert_close(part.flatten(1).norm(dim=1), weight.flatten(1).norm(dim=1))
            assert torch.allclose(
                torch.cosine_similarity(part.flatten(1), drawn[name].flatten(1)), torch.ones(1)
            )


def test_networks_that_differ_are_told_so():
    one, other, batches = MLP([4, 6, 3]), MLP([4, 5, 3]), [(torch.randn(2, 4), torch.tensor([0, 1]))]
    with pytest.raises(UserError, match=r"has shapes \(6, 4\) and \(5, 4\)"):
        barrier(one, CrossEntropy(), batches, parameters(one), parameters(other))
    with pytest.raises(UserError, match="is of one network alone"):
        barrier(one, CrossEntropy(), batches, parameters(one), {})
    with pytest.raises(UserError, match="points: 1 is not possible"):
        barrier(one, CrossEntropy(), batches, parameters(one), parameters(one), points=1)
