"""Measures of the gradient and its noise against closed forms, enumerations and a second implementation."""

from itertools import combinations, permutations, product
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from noise_draws import (
    CURVATURES,
    THETA,
    VARIANCES,
    estimate,
    quadratic,
    truth,
)
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.utils.data import DataLoader, TensorDataset

import sgdlit.measures
from sgdlit.data.orders import FixedList, ForwardThenReversed, RandomReshuffling, WithReplacement
from sgdlit.foundations.errors import UserError
from sgdlit.foundations.intervals import fieller_interval, jackknife_covariance
from sgdlit.measures import (
    HessianProducts,
    batch_sharpness,
    c_reg,
    c_reg_parts,
    curvature_noise,
    example_norms,
    gradient_noise,
    gradient_norm,
    mean_gradient,
    noise_of_batch,
    noise_of_parts,
    noise_of_steps,
    sharpness,
    signed_gradient,
    train_test_gap,
)
from sgdlit.measures.example_gradients import example_gradients
from sgdlit.measures.micro_batches import MicroBatchNoise, population_of
from sgdlit.models import MLP, DeepLinear, WideResNet
from sgdlit.objectives import CrossEntropy, HalfSquaredError, loss_by_name
from sgdlit.objectives.layer_factors import linear_layers

SQUARED = loss_by_name("half_squared_error")


def least_squares(examples: int = 6, d: int = 3, seed: int = 0):
    """Network, inputs, targets, and by hand the gradients g_i = x_i(x_iᵀw − y_i), ``[n, d]``."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(examples, d, generator=generator, dtype=torch.float64)
    y = torch.randn(examples, generator=generator, dtype=torch.float64)
    network = nn.Linear(d, 1, bias=False).double()
    network.weight.data.copy_(torch.randn(1, d, generator=generator, dtype=torch.float64))
    return network, x, y, x * (x @ network.weight.detach()[0] - y).unsqueeze(1)


def split(x, y, sizes):
    return list(zip(x.split(sizes), y.split(sizes), strict=True))


def trace(g):
    """S² of all examples there are."""
    return (g - g.mean(0)).square().sum() / (len(g) - 1)


# Closed forms


def test_gradient_and_norms_of_least_squares():
    network, x, y, g = least_squares(50)
    batches = split(x, y, [24, 24, 2])
    assert gradient_norm(network, SQUARED, batches)["weight"] == pytest.approx(
        g.mean(0).square().sum().item(), rel=1e-12
    )
    assert torch.allclose(example_norms(network, SQUARED, batches), g.square().sum(1), rtol=1e-12)
    found = gradient_noise(network, SQUARED, batches, population=50)
    assert found.covariance_trace == pytest.approx(trace(g).item(), rel=1e-12)
    assert found.squared_gradient == pytest.approx(g.mean(0).square().sum().item(), rel=1e-12)
    assert found.low == found.high == pytest.approx(found.noise_scale, rel=1e-12)  # nothing is left unseen


@pytest.mark.parametrize("measured", [example_norms, gradient_noise, gradient_norm])
def test_the_size_of_batches_does_not_matter(measured):
    network, x, y, _ = least_squares(50)
    whole = measured(network, SQUARED, [(x, y)])
    ragged = measured(network, SQUARED, split(x, y, [24, 24, 2]))
    flat = (list(v.values()) if isinstance(v, dict) else list(v) for v in (whole, ragged))
    for one, other in zip(*flat, strict=True):
        assert float(one) == pytest.approx(float(other), rel=1e-12)


def test_the_noisy_quadratic_has_its_noise_scale():
    network = quadratic()
    found = estimate(network, 20_000, 0)
    gradient = torch.tensor(CURVATURES, dtype=torch.float64) * THETA
    assert found.covariance_trace == pytest.approx(VARIANCES.sum().item(), rel=0.03)
    assert found.squared_gradient == pytest.approx(gradient.square().sum().item(), rel=0.05)
    assert found.noise_scale == pytest.approx(truth(), rel=0.06)
    assert found.low < truth() < found.high


# Enumerations


def partitions(items: tuple[int, ...], size: int):
    """All ways to cut items into batches of a size, the last one with what remains, as lists of lists."""
    rest = len(items) % size
    for last in combinations(items, rest) if rest else [()]:
        left = tuple(i for i in items if i not in last)
        for order in permutations(left):
            parts = [sorted(order[k : k + size]) for k in range(0, len(order), size)]
            if parts == sorted(parts) and all(
                list(order[k : k + size]) == parts[k // size] for k in range(0, len(order), size)
            ):
                yield [*parts, *([sorted(last)] if last else [])]


@pytest.mark.parametrize("size", [2, 3])
def test_c_reg_in_two_parts_is_the_mean_over_all_partitions(size):
    network, x, y, g = least_squares()
    each = [
        c_reg(network, SQUARED, [(x[p], y[p]) for p in partition]).item()
        for partition in partitions(tuple(range(6)), size)
    ]
    assert len(each) == {2: 15, 3: 10}[size]
    parts = c_reg_parts(network, SQUARED, split(x, y, [4, 2]), [size, 6])
    assert parts.of_gradient + parts.of_noise[size] == pytest.approx(sum(each) / len(each), rel=1e-12)
    assert parts.of_gradient == pytest.approx(g.mean(0).square().sum().item() / 4, rel=1e-12)
    assert parts.of_noise[6] == pytest.approx(0, abs=1e-14)
    gamma = (g - g.mean(0)).square().sum().item() / 6  # equation 22
    assert parts.of_noise[size] == pytest.approx((6 - size) / 5 * gamma / size / 4, rel=1e-12)


@pytest.mark.parametrize("size", [2, 3, 4, 5])
def test_noise_from_parts_of_the_whole_set_is_unbiased(size):
    """Parts of 2, of 3, and ragged ones of 4 + 2 and 5 + 1."""
    _, _, _, g = least_squares()
    found = []
    for partition in partitions(tuple(range(6)), size):
        means = torch.stack([g[p].mean(0) for p in partition])
        sizes = [len(p) for p in partition]
        found.append(noise_of_parts(means.square().sum(1), sizes, float(g.mean(0).square().sum()), 6))
    mean = torch.tensor(found, dtype=torch.float64).mean(0)
    assert mean[0].item() == pytest.approx(trace(g).item(), rel=1e-12)
    assert mean[1].item() == pytest.approx(g.mean(0).square().sum().item(), rel=1e-12)


@pytest.mark.parametrize("sizes", [[1, 1, 1], [1, 2], [2, 2], [3, 1]])
@pytest.mark.parametrize("replaced", [False, True])
def test_noise_from_samples_is_unbiased(sizes, replaced):
    """Over all ordered samples of 3 or 4 of 6, with and without replacement."""
    _, _, _, g = least_squares()
    n = sum(sizes)
    chosen = torch.cartesian_prod(*[torch.arange(6)] * n)
    if not replaced:
        chosen = chosen[[len(set(row)) == n for row in chosen.tolist()]]
    found = []
    for sample in chosen:
        means = torch.stack([part.mean(0) for part in g[sample].split(sizes)])
        of_mean = float(g[sample].mean(0).square().sum())
        population = float("inf") if replaced else 6
        found.append(noise_of_parts(means.square().sum(1), sizes, of_mean, population))
    mean = torch.tensor(found, dtype=torch.float64).mean(0)
    # With replacement the covariance of one draw has the divisor N.
    assert mean[0].item() == pytest.approx(trace(g).item() * (5 / 6 if replaced else 1), rel=1e-12)
    assert mean[1].item() == pytest.approx(g.mean(0).square().sum().item(), rel=1e-12)


# A second implementation


def by_vmap(network, loss, x, y):
    """Gradients of single examples, ``[n, P]``."""
    parameters = {name: p.detach() for name, p in network.named_parameters() if p.requires_grad}

    def cost(values, one, target):
        outputs = functional_call(network, values, (one.unsqueeze(0),))
        return loss.per_example(outputs, target.unsqueeze(0)).sum()

    found = vmap(grad(cost), (None, 0, 0))(parameters, x, y)
    return torch.cat([g.flatten(1) for g in found.values()], 1)


class Positions(nn.Module):
    """A linear layer at every position of a sequence, rectified in place, then one of the whole."""

    def __init__(self):
        super().__init__()
        self.each, self.out = nn.Linear(4, 5), nn.Linear(15, 3)

    def forward(self, x):
        return self.out(torch.relu_(self.each(x.view(-1, 3, 4))).flatten(1))


class Tied(nn.Module):
    """One matrix, used by a layer's call and once more beside it."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(12, 12)

    def forward(self, x):
        return nn.functional.linear(torch.tanh(self.layer(x)), self.layer.weight)[:, :3]


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(12, 12)

    def forward(self, x):
        return self.layer(torch.tanh(self.layer(x)))[:, :3]


class BiasBeside(nn.Module):
    """A bias that is used by its layer's call and once more beside it."""

    def __init__(self):
        super().__init__()
        self.each, self.out = nn.Linear(12, 5), nn.Linear(5, 3)

    def forward(self, x):
        return self.out(torch.relu(self.each(x))) + 2 * self.out.bias


class PositionsFirst(nn.Module):
    """A linear layer at four positions, which stand before the examples in its inputs."""

    def __init__(self):
        super().__init__()
        self.each, self.out = nn.Linear(3, 5), nn.Linear(20, 3)

    def forward(self, x):
        return self.out(torch.tanh(self.each(x.view(-1, 4, 3).transpose(0, 1))).transpose(0, 1).flatten(1))


def frozen_first() -> nn.Module:
    network = MLP([12, 8, 3], "gelu")
    network.layers[1].weight.requires_grad_(False)
    network.layers[3].bias.requires_grad_(False)
    return network


NETWORKS = {
    "MLP": lambda: MLP([12, 8, 3], "gelu"),
    "frozen": frozen_first,
    "no biases": lambda: MLP([12, 8, 3], "tanh", bias=False),
    "positions": Positions,
    "tied": Tied,
    "twice": Twice,
    "bias beside": BiasBeside,
    "positions first": PositionsFirst,
    "deep linear": lambda: DeepLinear([12, 8, 3]),
    "LayerNorm": lambda: nn.Sequential(nn.Linear(12, 6), nn.LayerNorm(6), nn.GELU(), nn.Linear(6, 3)),
    "BatchNorm": lambda: nn.Sequential(nn.Linear(12, 6), nn.BatchNorm1d(6), nn.Linear(6, 3)).eval(),
    "convolution": lambda: nn.Sequential(
        nn.Unflatten(1, (3, 2, 2)), nn.Conv2d(3, 4, 2, padding=1), nn.GELU(), nn.Flatten(), nn.Linear(36, 3)
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("loss", [CrossEntropy(), HalfSquaredError()], ids=["classes", "squares"])
def test_example_gradients_are_those_of_vmap(name, loss):
    torch.manual_seed(0)
    network = NETWORKS[name]().double()
    x, y = torch.randn(11, 12, dtype=torch.float64), torch.randint(3, (11,))
    g = by_vmap(network, loss, x, y)
    batches = split(x, y, [4, 4, 3])
    direction = mean_gradient(network, loss, batches).gradient
    flat = torch.cat([part.flatten() for part in direction.values()])
    assert torch.allclose(flat, g.mean(0), rtol=1e-10, atol=1e-14)
    found = example_gradients(network, loss, batches, direction)
    assert torch.allclose(found.squared_norms, g.square().sum(1), rtol=1e-10)
    assert torch.allclose(found.products, g @ flat, rtol=1e-10, atol=1e-13)
    by_layers = name not in ("deep linear", "LayerNorm", "BatchNorm", "convolution")
    assert (linear_layers(network) is not None) == by_layers


def test_as_many_positions_as_examples_are_seen_whether_or_not_the_network_was_looked_at():
    """Also of a network that was looked at before, and is not looked at again."""
    torch.manual_seed(0)
    network, loss = PositionsFirst().double(), CrossEntropy()
    x, y = torch.randn(8, 12, dtype=torch.float64), torch.randint(3, (8,))
    squares = by_vmap(network, loss, x, y).square().sum(1)
    for checked in (False, True):
        found = example_gradients(network, loss, [(x[:4], y[:4])], of_mean=True, checked=checked)
        assert torch.allclose(found.squared_norms, squares[:4], rtol=1e-10)


def by_first_unit(h):
    """An order, which depends on the examples."""
    return h[:, 0].argsort()


ORDERS = {
    "reversed": lambda h: torch.arange(len(h)).flip(0),
    "rotated": lambda h: torch.arange(len(h)).roll(1, 0),
    "halves swapped": lambda h: torch.arange(len(h)).roll(len(h) // 2, 0),
    "halves interleaved": lambda h: torch.cat([torch.arange(k, len(h), 2) for k in (0, 1)]),
    "sorted": by_first_unit,
    "sorted with ties": lambda h: by_first_unit(torch.relu(h)),
    "drawn by numpy": lambda h: torch.from_numpy(DRAWS.permutation(len(h))),
}
DRAWS = np.random.default_rng(0)


class Moving(nn.Module):
    """An MLP that brings the examples into another order between two layers, and perhaps back afterwards."""

    def __init__(self, order, back):
        super().__init__()
        self.one, self.two, self.order, self.back = nn.Linear(12, 6), nn.Linear(6, 3), order, back

    def forward(self, x):
        h = torch.tanh(self.one(x))
        order = self.order(h)
        out = self.two(h[order])
        return out[order.argsort()] if self.back else out


@pytest.mark.parametrize("size", [3, 4, 12])
@pytest.mark.parametrize("name", ORDERS)
def test_examples_that_are_moved_and_moved_back_have_their_own_gradients(name, size):
    """Rows of the second layer are those of other examples; against vmap."""
    torch.manual_seed(0)
    x, y = torch.randn(size, 12, dtype=torch.float64), torch.randint(3, (size,))
    network, loss = Moving(ORDERS[name], True).double(), CrossEntropy()
    expected = by_vmap(network, loss, x, y)
    for of_mean in (False, True):
        found = example_gradients(network, loss, [(x, y)], of_mean=of_mean)
        assert torch.allclose(found.squared_norms, expected.square().sum(1), rtol=1e-10)


MOVED = [(name, 12) for name in ORDERS] + [(name, 3) for name in list(ORDERS)[:4]]


@pytest.mark.parametrize(("name", "size"), MOVED)
def test_examples_that_are_moved_and_not_moved_back_are_refused_in_words(name, size):
    torch.manual_seed(0)
    x, y = torch.randn(size, 12, dtype=torch.float64), torch.randint(3, (size,))
    network = Moving(ORDERS[name], False).double()
    with pytest.raises(
        UserError, match=r"^network: Moving gives example \d+ a loss of .* allowed: a network"
    ):
        example_norms(network, CrossEntropy(), [(x, y)])


class InLargeBatches(nn.Module):
    """Layers that mix the examples of batches of ``first`` and more."""

    def __init__(self, first):
        super().__init__()
        self.one, self.two, self.first = nn.Linear(12, 6), nn.Linear(6, 3), first

    def forward(self, x):
        h = torch.tanh(self.one(x))
        return self.two(h + h.mean(0) if len(h) >= self.first else h)


@pytest.mark.parametrize("first", [2, 3, 4, 5, 12])
def test_a_network_that_mixes_large_batches_alone_is_refused_too(first):
    torch.manual_seed(0)
    x, y = torch.randn(12, 12, dtype=torch.float64), torch.randint(3, (12,))
    with pytest.raises(
        UserError, match=rf"^network: InLargeBatches gives .* in a batch of {4 if first < 5 else 12},"
    ):
        example_norms(InLargeBatches(first).double(), CrossEntropy(), [(x, y)])


class Recurrent(nn.Module):
    """An LSTM, which vmap does not know."""

    def __init__(self):
        super().__init__()
        self.embedding, self.lstm = nn.Embedding(11, 6), nn.LSTM(6, 5, batch_first=True)
        self.out = nn.Linear(5, 3)

    def forward(self, tokens):
        return self.out(self.lstm(self.embedding(tokens))[0][:, -1])


class Attention(nn.Module):
    """A transformer's block, with its embedding as its output matrix."""

    def __init__(self):
        super().__init__()
        self.embedding, self.out = nn.Embedding(11, 8), nn.Linear(8, 11, bias=False)
        self.block = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.out.weight = self.embedding.weight

    def forward(self, tokens):
        return self.out(self.block(self.embedding(tokens)).mean(1))


IMAGES, TOKENS = torch.rand(5, 3, 32, 32, dtype=torch.float64), torch.arange(35).view(5, 7) % 11


@pytest.mark.parametrize(
    ("make", "x"),
    [
        (lambda: WideResNet(10, 1), IMAGES),  # which has scalar parameters
        (lambda: nn.Sequential(nn.Conv2d(3, 6, 3, groups=3, dilation=2), nn.BatchNorm2d(6),
                               nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten()), IMAGES),
        (Recurrent, TOKENS),
        (Attention, TOKENS),
    ],
    ids=["WRN", "depthwise, dilated, BatchNorm", "LSTM", "transformer"],
)  # fmt: skip
def test_networks_of_every_kind_have_the_gradients_of_their_examples(make, x):
    torch.manual_seed(0)
    network, y = make().double().eval(), torch.randint(3, (5,))
    found = example_norms(network, CrossEntropy(), split(x, y, [3, 2]))
    for k in range(5):
        cost = CrossEntropy()(network(x[k : k + 1]), y[k : k + 1])
        gradient = torch.autograd.grad(cost, list(network.parameters()), materialize_grads=True)
        assert found[k].item() == pytest.approx(sum(g.square().sum().item() for g in gradient), rel=1e-10)


def test_what_vmap_cannot_do_is_done_one_after_another():
    class Branching(nn.Module):
        def __init__(self):
            super().__init__()
            self.weights = nn.Parameter(torch.randn(12, 3, dtype=torch.float64))

        def forward(self, x):
            return torch.stack([row @ self.weights * (2 if row.sum().item() > 0 else 1) for row in x])

    torch.manual_seed(0)
    network, x, y = Branching(), torch.randn(7, 12, dtype=torch.float64), torch.randint(3, (7,))
    found = example_norms(network, CrossEntropy(), split(x, y, [4, 3]))
    for k in range(7):
        cost = CrossEntropy()(network(x[k : k + 1]), y[k : k + 1])
        (gradient,) = torch.autograd.grad(cost, [network.weights])
        assert found[k].item() == pytest.approx(gradient.square().sum().item(), rel=1e-12)


def test_single_examples_need_a_gradient_of_their_own():
    x, y = torch.randn(6, 12), torch.randint(3, (6,))
    network = nn.Sequential(nn.Linear(12, 6), nn.BatchNorm1d(6), nn.Linear(6, 3))
    with pytest.raises(UserError, match=r"network\.1: BatchNorm1d takes the statistics of the batch"):
        example_norms(network, CrossEntropy(), [(x, y)])
    with pytest.raises(UserError, match="no example has a value of its own"):
        example_norms(network.eval(), lambda f, t: (f - t).square().mean(), [(x, y)])
    assert gradient_norm(network, nn.functional.cross_entropy, [(x, y)])


class DescendsInside(nn.Module):
    """Its outputs are a step down the gradient of a function of its inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(12, 3))

    def forward(self, x):
        x = x.detach().requires_grad_()
        (slope,) = torch.autograd.grad((x @ self.weight).square().sum(), x, create_graph=True)
        return (x - 0.1 * slope) @ self.weight


def test_norms_of_a_network_that_needs_gradients_to_compute_its_outputs():
    torch.manual_seed(0)
    network, x, y = DescendsInside().double(), torch.randn(6, 12).double(), torch.randint(3, (6,))
    found = example_norms(network, CrossEntropy(), [(x, y)])
    for i, norm in enumerate(found.tolist()):
        cost = nn.functional.cross_entropy(network(x[i : i + 1]), y[i : i + 1])
        (g,) = torch.autograd.grad(cost, network.weight)
        assert norm == pytest.approx(float(g.square().sum()), rel=1e-10)


def test_a_first_part_is_of_the_same_function_as_the_batch():
    """With statistics of the batch the two gradients are of two functions."""
    network = nn.Sequential(nn.Linear(12, 6), nn.BatchNorm1d(6), nn.Linear(6, 3))
    batch = torch.randn(6, 12), torch.randint(3, (6,))
    with pytest.raises(UserError, match=r"network\.1: BatchNorm1d takes the statistics of the batch"):
        noise_of_batch(network, CrossEntropy(), batch, 2, first=2)
    assert noise_of_batch(network, CrossEntropy(), batch, 2)
    assert noise_of_batch(network.eval(), CrossEntropy(), batch, 2, first=2)


@pytest.mark.parametrize("measured", [example_norms, gradient_noise, gradient_norm, c_reg])
def test_nothing_of_the_network_moves(measured):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(12, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Linear(6, 3))
    network.train(measured in (gradient_norm, c_reg))  # else single examples have no gradient of their own
    network[0].weight.grad = torch.ones(6, 12)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    batches = [(torch.randn(6, 12), torch.randint(3, (6,)))]
    modes, drawn = [m.training for m in network.modules()], torch.random.get_rng_state()
    measured(network, CrossEntropy(), batches)
    assert torch.equal(torch.random.get_rng_state(), drawn)
    assert [m.training for m in network.modules()] == modes
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert torch.equal(network[0].weight.grad, torch.ones(6, 12))
    assert network[3].weight.grad is None


# Intervals


def test_the_jackknife_of_a_mean_is_its_variance():
    values = torch.randn(20, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64).numpy()
    left_out = (values.sum(0) - values) / 19
    expected = torch.cov(torch.from_numpy(values).T).numpy() / 20
    assert jackknife_covariance(left_out) == pytest.approx(expected, rel=1e-12)
    assert jackknife_covariance(left_out, 0.25) == pytest.approx(0.75 * expected, rel=1e-12)


def test_fieller_ends_where_the_difference_is_significant():
    covariance = torch.tensor([[0.04, 0.01], [0.01, 0.09]], dtype=torch.float64).numpy()
    low, high = fieller_interval((2.0, 3.0), covariance, 10**9)
    for r in (low, high):
        assert (2 - 3 * r) ** 2 == pytest.approx(1.959964**2 * (0.04 - 2 * r * 0.01 + r * r * 0.09), rel=1e-5)
    low, high = fieller_interval((2.0, 0.3), covariance, 10**9)
    assert high == float("inf")
    assert (2 - 0.3 * low) ** 2 == pytest.approx(
        1.959964**2 * (0.04 - 2 * low * 0.01 + low * low * 0.09), rel=1e-5
    )
    assert fieller_interval((0.1, 0.1), covariance, 10**9) == (0.0, float("inf"))
    assert fieller_interval((2.0, 3.0), 0 * covariance, 9) == pytest.approx((2 / 3, 2 / 3))


def test_the_upper_end_is_infinite_where_the_gradient_may_be_zero():
    network = quadratic()
    network.theta.data.mul_(0.01)
    found = estimate(network, 64, 0)
    assert found.high == float("inf")
    assert found.low > 0


# The parts of a batch, and steps


@pytest.mark.parametrize("sizes", [[2, 2, 2], [3, 3]])
def test_the_parts_of_a_batch_are_those_of_the_formula(sizes):
    network, x, y, g = least_squares()
    found = noise_of_batch(network, SQUARED, (x, y), len(sizes), population=6)
    means = torch.stack([part.mean(0) for part in g.split(sizes)])
    expected = noise_of_parts(means.square().sum(1), sizes, float(g.mean(0).square().sum()), 6)
    assert tuple(found) == pytest.approx(tuple(expected), rel=1e-12)
    ragged = noise_of_batch(network, SQUARED, (x, y), 4, population=6)  # 2 + 2 + 1 + 1
    means = torch.stack([part.mean(0) for part in g.split([2, 2, 1, 1])])
    expected = noise_of_parts(means.square().sum(1), [2, 2, 1, 1], float(g.mean(0).square().sum()), 6)
    assert tuple(ragged) == pytest.approx(tuple(expected), rel=1e-12)


def test_a_first_part_and_the_batch_make_the_two_parts():
    network, x, y, g = least_squares()
    for first in (1, 2, 5):
        found = noise_of_batch(network, SQUARED, (x, y), 2, population=9, first=first)
        sizes = [first, 6 - first]
        means = torch.stack([part.mean(0) for part in g.split(sizes)])
        expected = noise_of_parts(means.square().sum(1), sizes, float(g.mean(0).square().sum()), 9)
        assert tuple(found) == pytest.approx(tuple(expected), rel=1e-11)
    for parts, first in ((2, 6), (2, 0), (3, 2)):
        with pytest.raises(UserError, match=f"first: {first} is not possible with parts: {parts}"):
            noise_of_batch(network, SQUARED, (x, y), parts, first=first)
    for arguments in ({"parts": 2, "first": 3, "batch_size": 6}, {"first": 3}, {"parts": None, "first": 3}):
        with pytest.raises(UserError, match=r"MicroBatchNoise\.first: 3 is not possible with parts"):
            MicroBatchNoise(**arguments)


@pytest.mark.parametrize(("parts", "first"), [(2, None), (2, 1), (2, 2), (3, None), (None, None)])
def test_the_noise_of_one_batch_is_unbiased(parts, first):
    """Over all ordered samples of 3 of 6."""
    network, x, y, g = least_squares()
    chosen = torch.cartesian_prod(*[torch.arange(6)] * 3)
    chosen = chosen[[len(set(row)) == 3 for row in chosen.tolist()]]
    found = [noise_of_batch(network, SQUARED, (x[s], y[s]), parts, 6, first=first) for s in chosen]
    mean = torch.tensor(found, dtype=torch.float64).mean(0)
    assert mean[0].item() == pytest.approx(trace(g).item(), rel=1e-11)
    assert mean[1].item() == pytest.approx(g.mean(0).square().sum().item(), rel=1e-11)


def test_the_noise_of_one_batch_is_unbiased_with_replacement_too():
    """Over all ordered draws of 3 of 6; for a finite population the second value would be too large."""
    network, x, y, g = least_squares()
    again = WithReplacement(), ForwardThenReversed(WithReplacement()), FixedList([0, 0])
    (population,) = {population_of(SimpleNamespace(training_size=6, order=order)) for order in again}
    chosen = torch.cartesian_prod(*[torch.arange(6)] * 3)
    found = [noise_of_batch(network, SQUARED, (x[s], y[s]), 2, population, first=1) for s in chosen]
    mean = torch.tensor(found, dtype=torch.float64).mean(0)
    assert mean[0].item() == pytest.approx(trace(g).item() * 5 / 6, rel=1e-11)
    assert mean[1].item() == pytest.approx(g.mean(0).square().sum().item(), rel=1e-11)
    once = RandomReshuffling(), ForwardThenReversed(), FixedList([1, 0])
    assert {population_of(SimpleNamespace(training_size=6, order=order)) for order in once} == {6}


def test_single_examples_as_parts_whatever_the_network():
    torch.manual_seed(0)
    for name in ("MLP", "convolution", "tied"):
        network = NETWORKS[name]().double()
        batch = torch.randn(9, 12, dtype=torch.float64), torch.randint(3, (9,))
        each, ninth = (noise_of_batch(network, CrossEntropy(), batch, parts) for parts in (None, 9))
        assert tuple(each) == pytest.approx(tuple(ninth), rel=1e-9)


def test_a_batch_has_two_parts_or_more():
    network, x, y, _ = least_squares()
    for parts in (0, 1, 7):
        with pytest.raises(UserError, match=f"parts: {parts} is not possible for a batch of 6"):
            noise_of_batch(network, SQUARED, (x, y), parts)
    with pytest.raises(UserError, match="three blocks or more"):
        noise_of_steps([1.0] * 5, [1.0] * 5, block=2)
    with pytest.raises(UserError, match=r"^block: 0 is not possible; allowed: 1, 2, 3"):
        noise_of_steps([1.0] * 5, [1.0] * 5, block=0)


def test_the_noise_scale_of_steps_is_a_ratio_of_means():
    scale, low, high = noise_of_steps([2.0, 4.0, 6.0, 8.0], [1.0, -1.0, 2.0, 2.0])
    assert scale == pytest.approx(5.0)
    assert low < scale < high
    covariance = torch.cov(torch.tensor([[2.0, 4, 6, 8], [1, -1, 2, 2]], dtype=torch.float64)).numpy() / 4
    assert (low, high) == pytest.approx(fieller_interval((5.0, 1.0), covariance, 3), rel=1e-9)


# Noise and curvature


def curved_least_squares():
    """Least squares with its Hessian and the covariance of its gradients, both dense."""
    network, x, y, g = least_squares()
    centred = g - g.mean(0)
    return network, x, y, g, x.T @ x / 6, centred.T @ centred / 6


def test_the_mean_over_all_signs_is_the_trace():
    """E vᵀHv = tr(HΣ̂) over all 2⁶ signs, exactly."""
    network, x, y, g, h, covariance = curved_least_squares()
    hessian = HessianProducts(network, SQUARED, split(x, y, [4, 2]))
    drawn = []
    for signs in product((-1.0, 1.0), repeat=6):
        xi = torch.tensor(signs, dtype=torch.float64)
        v = signed_gradient(hessian, SQUARED, xi) - float(xi.mean()) * 6**0.5 * hessian.gradient
        expected = ((g - g.mean(0)) * xi.unsqueeze(1)).sum(0) / 6**0.5
        torch.testing.assert_close(v, expected, rtol=1e-12, atol=1e-13)
        drawn.append(float(v @ (hessian @ v)))
    assert sum(drawn) / 64 == pytest.approx(float((h @ covariance).trace()), rel=1e-12)


def test_the_noise_scale_with_curvature():
    network, x, y, g, h, covariance = curved_least_squares()
    found = curvature_noise(network, SQUARED, split(x, y, [4, 2]), probes=400)
    mean = g.mean(0)
    assert found.along_gradient == pytest.approx(float(mean @ h @ mean), rel=1e-12)
    error = float(found.draws.std()) / 20
    assert found.trace.value == pytest.approx(float((h @ covariance).trace()), abs=4 * error)
    assert found.noise_scale == pytest.approx(found.trace.value / found.along_gradient, rel=1e-12)
    again = curvature_noise(network, SQUARED, [(x, y)], probes=400)
    torch.testing.assert_close(again.draws, found.draws, rtol=1e-10, atol=1e-12)


# Bad input


def nan(network: nn.Module) -> nn.Module:
    next(network.parameters()).data.view(-1)[0] = float("nan")
    return network


TAKEN = {
    "gradient_norm": gradient_norm,
    "example_norms": example_norms,
    "gradient_noise": gradient_noise,
    "c_reg_parts": lambda *given: c_reg_parts(*given, [2]),
    "sharpness": sharpness,
    "trace": sgdlit.measures.trace,
    "batch_sharpness": batch_sharpness,
    "noise_of_batch": lambda network, loss, batches: noise_of_batch(network, loss, batches[0]),
    "train_test_gap": lambda network, loss, batches: train_test_gap(network, loss, batches, batches),
}


@pytest.mark.parametrize("name", TAKEN)
def test_a_network_that_has_diverged_is_told_so(name):
    batches = [(torch.randn(6, 12), torch.randint(3, (6,)))]
    with pytest.raises(UserError, match=r"layers\.1\.weight: 1 of 96 numbers are NaN or infinite, .*allowed"):
        TAKEN[name](nan(MLP([12, 8, 3])), CrossEntropy(), batches)


@pytest.mark.parametrize("name", [name for name in TAKEN if name != "noise_of_batch"])
def test_no_examples_are_told_so(name):
    with pytest.raises(UserError, match="no examples; allowed"):
        TAKEN[name](MLP([12, 8, 3]), CrossEntropy(), [])
    empty = [(torch.zeros(0, 12), torch.zeros(0, dtype=torch.long))]
    if name != "batch_sharpness":
        with pytest.raises(UserError, match="no examples; allowed"):
            TAKEN[name](MLP([12, 8, 3]), CrossEntropy(), empty)


@pytest.mark.parametrize("name", ["example_norms", "gradient_noise", "c_reg_parts", "train_test_gap"])
def test_a_mean_has_no_values_of_examples(name):
    batches = [(torch.randn(6, 12), torch.randint(3, (6,)))]
    with pytest.raises(UserError, match=r"no example has a value of its own; allowed"):
        TAKEN[name](MLP([12, 8, 3]), nn.functional.cross_entropy, batches)


@pytest.mark.parametrize("name", ["gradient_norm", "sharpness", "trace", "batch_sharpness", "noise_of_batch"])
def test_a_mean_is_enough_elsewhere(name):
    torch.manual_seed(0)
    batches, network = [(torch.randn(6, 12), torch.randint(3, (6,)))], MLP([12, 8, 3])
    for loss in (nn.functional.cross_entropy, CrossEntropy().per_example):
        assert TAKEN[name](network, loss, batches)


@pytest.mark.parametrize("name", TAKEN)
def test_inputs_are_one_tensor(name):
    batches = [({"x": torch.randn(6, 12)}, torch.randint(3, (6,)))]
    with pytest.raises(UserError, match=r"inputs are a dict; allowed: one tensor"):
        TAKEN[name](MLP([12, 8, 3]), CrossEntropy(), batches)


@pytest.mark.parametrize("name", ["gradient_noise", "sharpness", "trace", "c_reg_parts", "gradient_norm"])
def test_a_loader_that_shuffles_is_gone_through_once(name):
    """So that it sees the same examples in every product and pass; the order changes rounding alone."""
    torch.manual_seed(0)
    network, x, y = MLP([12, 8, 3], "gelu").double(), torch.randn(20, 12).double(), torch.randint(3, (20,))
    loader = DataLoader(TensorDataset(x, y), batch_size=6, shuffle=True)
    given = list(loader)
    again, calls = TAKEN[name](network, CrossEntropy(), given), []

    class Counted:
        def __iter__(self):
            calls.append(1)
            return iter(given if len(calls) == 1 else given[:1])

    found = TAKEN[name](network, CrossEntropy(), Counted())
    assert len(calls) == 1
    assert str(found) == str(again)


def test_examples_below_three_have_no_noise():
    network, x, y, _ = least_squares()
    with pytest.raises(UserError, match="2 examples; allowed: 3 or more"):
        gradient_noise(network, SQUARED, [(x[:2], y[:2])])
