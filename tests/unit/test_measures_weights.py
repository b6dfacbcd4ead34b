"""Measures of weights, of the trajectory and of features against matrices that were built for it."""

import math

import pytest
import torch
from torch import nn

from sgdlit.foundations.errors import UserError
from sgdlit.measures import (
    activations,
    angle,
    balancedness,
    by_layer,
    cosine,
    distance,
    effective_lr,
    effective_rank,
    features,
    features_of,
    layers_of,
    numerical_rank,
    partial_products,
    scale_invariant_weights,
    singular_values,
    spectrum_of,
    stable_rank,
    train_test_gap,
    update,
    weight_matrices,
    weight_norms,
)
from sgdlit.measures.rows import Rows
from sgdlit.measures.singular_values import largest_singular_values
from sgdlit.models import MLP, DeepLinear, SimpleCNN
from sgdlit.models.sensing import BilinearForm
from sgdlit.objectives import loss_by_name


def with_values(sigma: list[float], m: int, n: int, seed: int = 0) -> torch.Tensor:
    """A matrix (m, n) with these singular values."""
    generator = torch.Generator().manual_seed(seed)
    left, right = (
        torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64))[0]
        for size in (m, n)
    )
    middle = torch.zeros(m, n, dtype=torch.float64)
    middle.diagonal()[: len(sigma)] = torch.tensor(sigma, dtype=torch.float64)
    return left @ middle @ right.T


def test_singular_values_of_a_matrix_in_half_precision():
    whole = with_values([4.0, 2.0, 1.0], 5, 7).bfloat16()
    exact = torch.linalg.svdvals(whole.double())[:2]
    assert singular_values(whole, 2).tolist() == pytest.approx(exact.tolist(), rel=1e-5)


def test_ranks_of_a_matrix_with_chosen_singular_values():
    values = singular_values(with_values([4.0, 2.0, 2.0], 5, 7))
    assert values.tolist() == pytest.approx([4, 2, 2, 0, 0], abs=1e-12)
    assert singular_values(with_values([4.0, 2.0, 2.0], 5, 7), 2).tolist() == pytest.approx([4, 2])
    assert stable_rank(values).item() == pytest.approx(24 / 16)
    entropy = -(0.5 * math.log(0.5) + 2 * 0.25 * math.log(0.25))
    assert effective_rank(values).item() == pytest.approx(math.exp(entropy), rel=1e-9)
    assert numerical_rank(values, 1e-6) == 3
    assert effective_rank(torch.ones(6)).item() == pytest.approx(6)


@pytest.mark.parametrize(("dtype", "rel"), [(torch.float32, 3e-7), (torch.float64, 1e-9)])
def test_few_values_of_a_large_matrix_need_no_decomposition(dtype, rel, monkeypatch):
    chosen = [10.0, 3.0, *torch.linspace(1, 0, 254).tolist()]
    matrix = with_values(chosen, 256, 300).to(dtype)
    flat = with_values(torch.linspace(1, 0.9, 256).tolist(), 256, 300)
    assert largest_singular_values(flat, 2).tolist() == singular_values(flat, 2).tolist()
    monkeypatch.setattr(torch.linalg, "svdvals", None)
    assert largest_singular_values(matrix, 2).tolist() == pytest.approx([10, 3], rel=rel)
    assert largest_singular_values(matrix.T, 1).tolist() == pytest.approx([10], rel=rel)


def test_weights_as_matrices():
    shapes = {name: tuple(matrix.shape) for name, matrix in weight_matrices(SimpleCNN()).items()}
    assert all(len(shape) == 2 for shape in shapes.values())
    network = MLP([4, 3, 2])
    network.layers[1].weight.requires_grad_(False)
    assert list(weight_matrices(network)) == ["layers.3.weight"]


def test_norms_by_layer():
    network = MLP([4, 3, 2])
    assert layers_of(network) == {
        "layers.1.weight": "layers.1",
        "layers.1.bias": "layers.1",
        "layers.3.weight": "layers.3",
        "layers.3.bias": "layers.3",
    }
    network.layers[1].bias.data.fill_(2.0)
    expected = math.sqrt(network.layers[1].weight.square().sum().item() + 12)
    assert weight_norms(network)["layers.1"] == pytest.approx(expected, rel=1e-6)
    assert list(weight_norms(DeepLinear([2, 3, 2]))) == ["weights.0", "weights.1"]
    assert list(weight_norms(BilinearForm(DeepLinear([2, 2])))) == ["net.weights.0"]
    assert list(weight_norms(nn.Linear(2, 2))) == ["weight", "bias"]


def test_the_way_between_parameters():
    start, middle = ({"a": torch.tensor([v]), "b": torch.tensor([[0.0, v]])} for v in (0.0, 2.0))
    end = {"a": torch.tensor([1.0]), "b": torch.tensor([[0.0, 1.0]])}
    assert distance(start, middle) == pytest.approx(math.sqrt(8))
    assert cosine(update(start, middle), update(middle, end)) == pytest.approx(-1)
    assert cosine(update(start, middle), {"a": torch.tensor([1.0]), "b": torch.zeros(1, 2)}) == pytest.approx(
        math.sqrt(0.5)
    )
    assert math.isnan(cosine(update(start, start), update(start, end)))


@pytest.mark.parametrize(("dtype", "digits"), [(torch.float32, 1e-7), (torch.float64, 1e-14)])
def test_sums_over_parameters_are_exact_whatever_the_number_of_numbers(dtype, digits):
    torch.manual_seed(0)
    shapes = {"small": (3, 2), "large": (700, 300), "one": (), "row": (512,), "none": (0,), "last": (513,)}
    one, other = ({name: torch.randn(shape).to(dtype) for name, shape in shapes.items()} for _ in range(2))
    one["large"] = one["large"].T.contiguous().T
    a, b = Rows.of(one), Rows.of(other)
    inner, squares = a.by_name(a.inner(b), a.squares())
    assert list(inner) == list(squares) == list(shapes)
    for name in shapes:
        x, y = (t[name].double().flatten().numpy() for t in (one, other))
        assert abs(inner[name] - math.fsum(x * y)) <= digits * math.sqrt((x @ x) * (y @ y))
        assert squares[name] == pytest.approx(math.fsum(x * x), rel=digits)


def test_rows_of_half_precision_are_in_float32():
    half = {"a": torch.randn(600).bfloat16()}
    rows, exact = Rows.of(half), half["a"].double()
    (squares,) = rows.by_name(rows.squares())
    assert squares["a"] == pytest.approx(float(exact @ exact), rel=1e-7)


def test_rows_are_a_copy_of_the_parameters():
    one = {"a": torch.randn(3, 400), "b": torch.tensor(2.0), "c": torch.randn(512)}
    rows = Rows.of(one)
    assert list(rows) == list(one)
    assert all(torch.equal(rows[name], one[name]) for name in one)
    assert Rows.of(rows) is rows
    one["a"].zero_()
    assert rows["a"].all()


def test_two_vectors_have_the_same_shapes_and_any_precision():
    one = {"a": torch.arange(1.0, 7).view(2, 3)}
    assert cosine(one, {"a": one["a"].double()}) == pytest.approx(1, rel=1e-6)
    for other in ({"a": one["a"].view(3, 2)}, {"a": torch.ones(1)}, {"b": one["a"]}):
        for of_two in (distance, cosine):
            with pytest.raises(UserError, match=r"^a: of \(2, 3\) here, there .*allowed: the same shapes"):
                of_two(one, other)


def test_distances_of_layers_add_up_to_that_of_the_network():
    torch.manual_seed(0)
    network, other = MLP([4, 3, 2]), MLP([4, 3, 2])
    here, there = ({n: p.detach() for n, p in each.named_parameters()} for each in (network, other))
    of_layers = {layer: distance(own, there) for layer, own in by_layer(layers_of(network), here).items()}
    assert list(of_layers) == ["layers.1", "layers.3"]
    assert sum(d**2 for d in of_layers.values()) == pytest.approx(distance(here, there) ** 2, rel=1e-6)
    layers = network.layers[1].parameters(), other.layers[1].parameters()
    apart = [(a - b).detach().double() for a, b in zip(*layers, strict=True)]
    expected = math.sqrt(sum(float(part.square().sum()) for part in apart))
    assert of_layers["layers.1"] == pytest.approx(expected, rel=1e-6)


def test_angles_between_weights():
    right = torch.tensor([1.0, 0.0])
    assert angle(right, torch.tensor([0.0, 2.0])) == pytest.approx(math.pi / 2, rel=1e-12)
    assert angle(right, -3 * right) == pytest.approx(math.pi, rel=1e-12)
    assert angle(right, 5 * right) == 0
    small = torch.tensor([1.0, 1e-9], dtype=torch.float64)
    assert angle(right.double(), small) == pytest.approx(1e-9, rel=1e-9), "an arc cosine would give 0"
    assert math.isnan(angle(right, torch.zeros(2)))


@pytest.mark.parametrize("turned", [1e-9, 1e-3, 1.0, math.pi / 2, 3.0])
def test_a_rotation_by_an_angle_is_that_angle_whatever_the_lengths(turned):
    torch.manual_seed(0)
    basis = torch.linalg.qr(torch.randn(12, 2, dtype=torch.float64))[0]
    w = 3 * basis[:, 0]
    rotated = 0.1 * (math.cos(turned) * basis[:, 0] + math.sin(turned) * basis[:, 1])
    assert angle(w.view(3, 4), rotated.view(3, 4)) == pytest.approx(turned, rel=1e-6)


def test_scale_invariance_is_tried():
    """Under LayerNorm without, and under BatchNorm in training mode; not what comes last, nor in evaluation
    mode; where it holds, ⟨w, ∂C/∂w⟩ = 0 (Euler), and a step of descent turns w by ε‖∂C/∂w‖/‖w‖."""
    torch.manual_seed(0)
    loss, batch = loss_by_name("cross_entropy"), (torch.randn(16, 4).double(), torch.randint(3, (16,)))

    def network(norm: nn.Module) -> nn.Module:
        layers = (nn.Linear(4, 6), norm, nn.ReLU(), nn.Linear(6, 3, bias=False))
        return nn.Sequential(*layers).double()

    normalized = network(nn.BatchNorm1d(6))
    assert scale_invariant_weights(normalized, loss, batch) == ["0.weight"]
    assert scale_invariant_weights(normalized.eval(), loss, batch) == []
    assert scale_invariant_weights(network(nn.Identity()), loss, batch) == []
    layered = network(nn.LayerNorm(6, eps=0.0))
    layered[0].bias.data.zero_()
    assert scale_invariant_weights(layered, loss, batch) == ["0.weight"]
    weight = layered[0].weight
    (gradient,) = torch.autograd.grad(loss(layered(batch[0]), batch[1]), [weight])
    assert float((weight * gradient).sum().detach()) == pytest.approx(0, abs=1e-14)
    lr = 1e-6
    turned = angle(weight, weight - lr * gradient)
    rate = effective_lr(lr, weight)  # for a unit vector u the gradient is ‖w‖∂C/∂w
    assert turned == pytest.approx(rate * float((weight.norm() * gradient.norm()).detach()), rel=1e-6)


def test_products_of_some_layers():
    torch.manual_seed(0)
    network = DeepLinear([3, 4, 5, 2]).double()
    one, two, three = (w.detach() for w in network.weights)
    found = partial_products(list(network.weights))
    assert list(found) == [(1, 2), (1, 3), (2, 3)]
    torch.testing.assert_close(found[1, 2], two @ one)
    torch.testing.assert_close(found[2, 3], three @ two)
    torch.testing.assert_close(found[1, 3], network.product.detach())
    values = spectrum_of(with_values([4.0, 2.0, 1e-4], 5, 7), "layers_1_to_2", 2, 1e-3)
    assert values["measure/singular_value_2/layers_1_to_2"] == pytest.approx(2)
    assert values["measure/numerical_rank/layers_1_to_2"] == 2
    assert spectrum_of(torch.zeros(3, 3), "w", 1, 1e-3) == {
        "measure/singular_value_1/w": 0,
        "measure/numerical_rank/w": 0,
    }


def test_balancedness_of_balanced_layers_is_zero_and_gradient_flow_conserves_the_rest():
    below, above = with_values([3.0, 1.0], 4, 5), torch.zeros(3, 4, dtype=torch.float64)
    assert balancedness([below, above]) == pytest.approx([math.sqrt(81 + 1)], rel=1e-12)  # σ² = 9, 1
    left, values, _ = torch.linalg.svd(below)
    assert balancedness([below, torch.diag(values) @ left.T]) == pytest.approx([0.0], abs=1e-12)

    torch.manual_seed(0)
    network, target = DeepLinear([3, 4, 2]).double(), torch.randn(2, 3, dtype=torch.float64)
    drift = {}
    for lr in (1e-2, 5e-3):
        torch.manual_seed(1)
        network.reset_parameters()
        before = [w.detach().clone() for w in network.weights]
        for _ in range(round(1 / lr)):
            cost = 0.5 * (network.product - target).square().sum()
            gradient = torch.autograd.grad(cost, list(network.weights))
            with torch.no_grad():
                for weight, g in zip(network.weights, gradient, strict=True):
                    weight -= lr * g
        after = [w.detach() for w in network.weights]
        gaps = [w[1].T @ w[1] - w[0] @ w[0].T for w in (before, after)]
        drift[lr] = float(torch.linalg.matrix_norm(gaps[1] - gaps[0]))
    assert drift[5e-3] < 0.1
    assert drift[1e-2] / drift[5e-3] == pytest.approx(2, rel=0.15)  # O(ε)


def test_the_gap_and_its_interval():
    loss, network = loss_by_name("half_squared_error"), nn.Linear(1, 1, bias=False).double()
    network.weight.data.zero_()
    y = torch.tensor([1.0, 2.0, 3.0, 2.0, 2.0], dtype=torch.float64)
    x = torch.ones(5, 1, dtype=torch.float64)
    training, test = [(x[:2], y[:2]), (x[:1], y[2:3])], [(x[:2], y[3:])]
    found = train_test_gap(network, loss, training, test)
    costs = torch.tensor([0.5, 2.0, 4.5], dtype=torch.float64)
    assert found.gap == pytest.approx(2 - 7 / 3, rel=1e-12)
    assert found.high - found.gap == pytest.approx(1.959964 * math.sqrt(costs.var().item() / 3), rel=1e-6)
    whole = train_test_gap(network, loss, training, test, population=3)
    assert whole.low == whole.high == whole.gap


def test_features_of_a_layer():
    active = torch.cat((with_values([5.0, 5.0], 6, 3), torch.zeros(6, 1, dtype=torch.float64)), 1)
    both = torch.cat((active, -active))  # centred
    found = features_of(both)
    assert found.effective_rank == pytest.approx(2, rel=1e-9)
    assert found.participation_ratio == pytest.approx(2, rel=1e-9)
    assert found.sparsity == pytest.approx(5 / 8)
    assert found.never_active == pytest.approx(1 / 4)
    assert features_of(torch.ones(5, 2)).effective_rank == 0

    network = MLP([4, 6, 2])
    x = torch.randn(9, 4)
    batches = [(x[:4], None), (x[4:8], None), (x[8:], None)]
    hidden = torch.relu(network.layers[1](x))
    assert torch.allclose(activations(network, batches, "layers.3"), hidden, atol=1e-6)
    assert features(network, batches).sparsity == pytest.approx(float((hidden <= 0).float().mean()))
    assert not network.layers[3]._forward_pre_hooks
    with pytest.raises(UserError, match=r"'layers\.2x'; did you mean layers\.2"):
        features(network, batches, "layers.2x")
