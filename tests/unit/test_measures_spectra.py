"""Spectra and tails of single examples' gradients, margins and projections: each against
its closed form, an enumeration, or dense matrices."""

import itertools
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sgdlit.foundations.errors import UserError
from sgdlit.measures.covariance_spectrum import covariance_eigenvalues, effective_number, gradient_gram
from sgdlit.measures.gauss_newton import gauss_newton_sharpness
from sgdlit.measures.margins import margins, weight_norm_product
from sgdlit.measures.noise_alignment import noise_alignment
from sgdlit.measures.random_projections import random_projections
from sgdlit.measures.sharpness import sharpness
from sgdlit.measures.signal_to_noise import coordinate_noise
from sgdlit.measures.tail_index import hill


class Attending(nn.Module):
    """A sequence of four positions through linear layers, summed up."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(3, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.leave(torch.tanh(self.enter(x)).mean(1))


def convolutional() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.GELU(), nn.Flatten(), nn.Linear(8, 3, bias=False))


def partly_frozen() -> nn.Module:
    network = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))
    network[0].bias.requires_grad_(False)
    network[2].weight.requires_grad_(False)
    return network


NETWORKS = {
    "linear layers": (lambda: nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)), (5,)),
    "partly frozen": (partly_frozen, (5,)),
    "convolution": (convolutional, (1, 4, 4)),
    "positions": (Attending, (4, 3)),
}
N = 7


def each(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(outputs, targets, reduction="none")


def case(name: str) -> tuple[nn.Module, Tensor, Tensor, list[tuple[Tensor, Tensor]]]:
    """A network in float64, N examples, and the same in batches of 3, 3 and 1."""
    torch.manual_seed(0)
    make, shape = NETWORKS[name]
    network = make().double()
    x, y = torch.randn(N, *shape, dtype=torch.float64), torch.arange(N) % 3
    return network, x, y, list(zip(x.split(3), y.split(3), strict=True))


def rows(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """∇C_i, one after another: ``[N, P]``."""
    trained = [p for p in network.parameters() if p.requires_grad]
    found = []
    for k in range(len(x)):
        own = torch.autograd.grad(each(network(x[k : k + 1]), y[k : k + 1]).sum(), trained)
        found.append(torch.cat([g.flatten() for g in own]))
    return torch.stack(found)


@pytest.mark.parametrize("name", NETWORKS)
def test_inner_products_and_the_spectrum_of_the_covariance(name):
    network, x, y, batches = case(name)
    g = rows(network, x, y)
    gram = gradient_gram(network, each, batches)
    torch.testing.assert_close(gram, g @ g.T, rtol=1e-12, atol=1e-14)
    centred = g - g.mean(0)
    dense = torch.linalg.eigvalsh(centred.T @ centred / N).flip(0)
    found = covariance_eigenvalues(gram)
    count = min(N, len(dense))
    torch.testing.assert_close(found[:count], dense[:count].clamp(min=0), rtol=1e-10, atol=1e-14)
    assert effective_number(found) == pytest.approx(float(dense.sum() ** 2 / dense.square().sum()))


def test_too_many_gradients_are_refused(monkeypatch):
    monkeypatch.setattr("sgdlit.measures.covariance_spectrum._NUMBERS", 100)
    network, _, _, batches = case("convolution")
    with pytest.raises(UserError, match="at most 2 examples"):
        gradient_gram(network, each, batches)


@pytest.mark.parametrize("name", NETWORKS)
def test_mean_and_variance_of_each_coordinate(name):
    network, x, y, batches = case(name)
    g = rows(network, x, y)
    found = coordinate_noise(network, each, batches)
    mean, variance = (torch.cat([v.flatten() for v in own.values()]) for own in (found.mean, found.variance))
    torch.testing.assert_close(mean, g.mean(0), rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(variance, g.var(0), rtol=1e-10, atol=1e-14)


def test_the_signal_is_without_bias():
    """Over all samples of 4 of N examples, the signal is that of all N, exactly."""
    network, x, y, _ = case("linear layers")
    whole = rows(network, x, y).mean(0).square()
    sums = []
    for chosen in map(list, itertools.combinations(range(N), 4)):
        found = coordinate_noise(network, each, [(x[chosen], y[chosen])])
        ratios = found.signal_to_noise(N)
        sums.append(torch.cat([(ratios[n] * found.variance[n]).flatten() for n in ratios]))
    torch.testing.assert_close(torch.stack(sums).mean(0), whole, rtol=1e-10, atol=1e-16)


@pytest.mark.parametrize("name", ["linear layers", "convolution"])
def test_alignment_of_noise_and_curvature(name):
    """The dense one lies where the intervals of its parts put it."""
    network, x, y, batches = case(name)
    trained = {n: p.detach() for n, p in network.named_parameters()}

    def cost(flat: Tensor) -> Tensor:
        parts = flat.split([p.numel() for p in trained.values()])
        values = {n: part.view_as(p) for (n, p), part in zip(trained.items(), parts, strict=True)}
        return each(torch.func.functional_call(network, values, (x,)), y).mean()

    h = torch.func.hessian(cost)(torch.cat([p.flatten() for p in trained.values()]))
    centred = rows(network, x, y) - rows(network, x, y).mean(0)
    sigma = centred.T @ centred / N
    dense = float((h * sigma).sum() / (h.norm() * sigma.norm()))
    found = noise_alignment(network, each, batches, probes=400)
    assert found.noise == pytest.approx(float(sigma.norm()), rel=1e-10)
    assert found.inner.low / found.curvature.high**0.5 < dense * found.noise
    assert dense * found.noise < found.inner.high / found.curvature.low**0.5
    assert found.cosine == pytest.approx(dense, rel=0.1)


def test_margins():
    """f(x) = Wx: by hand."""
    network = nn.Linear(2, 3, bias=False).double()
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 2.0], [-1.0, 0.0]]))
    x = torch.tensor([[3.0, 1.0], [1.0, 1.0], [0.0, 0.0]], dtype=torch.float64)
    found = margins(network, [(x[:2], torch.tensor([0, 0])), (x[2:], torch.tensor([2]))])
    assert found.tolist() == [1.0, -1.0, 0.0]
    assert weight_norm_product(network) == pytest.approx(math.sqrt(6))
    with pytest.raises(UserError, match="no classes"):
        margins(network, [(x, torch.zeros(3, dtype=torch.float64))])


def test_projections_keep_lengths_and_differences():
    """Σx² = ‖θ‖² up to √(2/q), of q = 800 directions within 4 of these; more directions begin as fewer."""
    one, other = ({"w": torch.randn(6, 5), "b": torch.randn(6)} for _ in range(2))
    both = {name: one[name] - other[name] for name in one}
    x, y, d = (random_projections(p, 800, seed=3) for p in (one, other, both))
    torch.testing.assert_close(x - y, d, rtol=1e-5, atol=1e-5)
    squared = sum(float(p.double().square().sum()) for p in both.values())
    assert abs(float(d.square().sum()) / squared - 1) < 4 * math.sqrt(2 / 800)
    few = random_projections(both, 3, seed=3) * math.sqrt(3)
    torch.testing.assert_close(few, (d * math.sqrt(800))[:3], rtol=1e-12, atol=0)
    assert not torch.equal(few, random_projections(both, 3, seed=4) * math.sqrt(3))


def test_a_gradient_that_is_not_finite_has_no_spectrum():
    gram = torch.eye(3)
    gram[0, 1] = math.inf
    assert covariance_eigenvalues(gram).isnan().all()


def test_examples_that_are_equal_have_no_tail():
    sample = torch.tensor([1.7] * 5 + [0.3], dtype=torch.float64)
    assert hill(sample)[:4].isinf().all()
    assert bool((hill(sample)[:4] > 0).all())


def test_hill():
    """Pareto draws: α within 2 standard errors in 95 % of samples; of Gaussian draws α̂ goes on growing."""
    generator = torch.Generator().manual_seed(0)
    for alpha in (0.8, 2.0):
        draws = torch.rand(400, 1000, generator=generator, dtype=torch.float64) ** (-1 / alpha)
        found = torch.stack([hill(sample)[99] for sample in draws])
        inside = ((found - alpha).abs() < 1.96 * alpha / 10).double().mean()
        assert 0.92 <= float(inside) <= 0.98
    gaussian = hill(torch.randn(20000, generator=generator, dtype=torch.float64).abs())
    assert float(gaussian[199]) > 1.3 * float(gaussian[1999])
    assert hill(torch.tensor([1.0, 2.0, 8.0])).tolist() == pytest.approx([1 / math.log(4), 2 / math.log(16)])
    with pytest.raises(UserError, match="positive"):
        hill(torch.tensor([1.0, 0.0]))


def test_gauss_newton_of_least_squares_is_the_hessian():
    x, y = case("linear layers")[1], torch.randn(N, 1, dtype=torch.float64)
    network = nn.Linear(5, 1, bias=False).double()

    def half_square(outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs - targets).square().sum(1) / 2

    expected = float(torch.linalg.eigvalsh(x.T @ x / N)[-1])
    found = gauss_newton_sharpness(network, half_square, [(x, y)], tolerance=1e-10)
    assert float(found.values[0]) == pytest.approx(expected, rel=1e-9)
    whole = sharpness(network, half_square, [(x, y)], tolerance=1e-10)
    assert float(whole.values[0]) == pytest.approx(expected, rel=1e-9)


def test_gauss_newton_of_a_network_is_the_dense_one():
    network, x, _, batches = case("convolution")
    trained = dict(network.named_parameters())

    def outputs(values: dict[str, Tensor]) -> Tensor:
        return torch.func.functional_call(network, values, (x,))

    jacobian = torch.func.jacrev(outputs)({name: p.detach() for name, p in trained.items()})
    flat = torch.cat([j.reshape(N, 3, -1) for j in jacobian.values()], 2)
    p = network(x).detach().softmax(1)
    bent = torch.diag_embed(p) - p[:, :, None] * p[:, None]
    dense = torch.einsum("nap,nab,nbq->pq", flat, bent, flat) / N
    found = gauss_newton_sharpness(network, each, batches, 2, 1e-10)
    torch.testing.assert_close(found.values, torch.linalg.eigvalsh(dense).flip(0)[:2], rtol=1e-9, atol=0)
