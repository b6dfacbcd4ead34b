"""Measures of curvature against dense Hessians, chosen spectra, enumerations and iterated recursions."""

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import combinations

import numpy as np
import pytest
import torch
from fit_runs import Runs, datamodule
from second_implementation import by_eigsh, oracle_product
from torch import Tensor, nn
from torch.func import functional_call, hessian, jacrev
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.optim import SGD, Adam, AdamW

from sgdlit.data.finite import shapes
from sgdlit.data.shards import PerChannel
from sgdlit.foundations.errors import UserError
from sgdlit.foundations.philox import derive_key
from sgdlit.measures.alignment import alignment, overlap, overlap_of
from sgdlit.measures.batch_sharpness import batch_sharpness, drawn_minibatches
from sgdlit.measures.curvature import (
    STEPS_OF_PART,
    cold_start,
    gradient_start,
    part_of_start,
    start_for,
    to_start_from,
    warm_start,
)
from sgdlit.measures.directional_sharpness import directional_sharpness
from sgdlit.measures.earlier import Earlier
from sgdlit.measures.eigenspace import eigenspace_overlap
from sgdlit.measures.estimate import signs
from sgdlit.measures.example_gradients import example_gradients
from sgdlit.measures.lanczos import lanczos, start_vector
from sgdlit.measures.preconditioned_sharpness import (
    Preconditioned,
    adam_preconditioner,
    preconditioned_sharpness,
)
from sgdlit.measures.products import GaussNewtonProducts, HessianProducts, bytes_held
from sgdlit.measures.sharpness import Sharpness, sharpness, sharpness_of
from sgdlit.measures.spectral_density import spectral_density_of
from sgdlit.measures.stability_limit import stability_limit
from sgdlit.measures.step_ratio import step_ratio
from sgdlit.measures.trace import trace, trace_of
from sgdlit.models import MLP, DeepLinear, WideResNet
from sgdlit.objectives import CrossEntropy, HalfSquaredError, Loss, NetworkOutput

CROSS_ENTROPY, SQUARED, OUTPUT = CrossEntropy(), HalfSquaredError(), NetworkOutput()


class Quadratic(nn.Module):
    """x -> ½θᵀAθ + xᵀθ, a cost whose Hessian is A."""

    def __init__(self, matrix: Tensor, theta: Tensor) -> None:
        super().__init__()
        self.matrix, self.theta = matrix, nn.Parameter(theta.clone())

    def forward(self, x: Tensor) -> Tensor:
        return (0.5 * self.theta @ self.matrix @ self.theta + x @ self.theta).unsqueeze(-1)


def symmetric(eigenvalues: list[float], seed: int = 0) -> Tensor:
    """A float64 matrix with these eigenvalues and random eigenvectors."""
    generator = torch.Generator().manual_seed(seed)
    size = len(eigenvalues)
    basis = torch.linalg.qr(torch.randn(size, size, dtype=torch.float64, generator=generator))[0]
    return basis @ torch.diag(torch.tensor(eigenvalues, dtype=torch.float64)) @ basis.T


def quadratic(matrix: Tensor, seed: int = 0) -> tuple[Quadratic, list[tuple[Tensor, Tensor]]]:
    generator = torch.Generator().manual_seed(seed)
    size = len(matrix)
    theta = torch.randn(size, dtype=matrix.dtype, generator=generator)
    noise = torch.randn(10, size, dtype=matrix.dtype, generator=generator)
    return Quadratic(matrix, theta), [(noise, torch.zeros(10))]


def dense(network: nn.Module, loss: Loss, inputs: Tensor, targets: Tensor) -> Tensor:
    """The Hessian by ``torch.func.hessian``, over the parameters that require a gradient."""
    return hessian(lambda v: loss(_outputs(network, v, inputs), targets))(_vector(network))


def _vector(network: nn.Module) -> Tensor:
    return torch.cat([p.detach().reshape(-1) for p in network.parameters() if p.requires_grad])


def _outputs(network: nn.Module, vector: Tensor, inputs: Tensor) -> Tensor:
    values, start = {}, 0
    for name, p in network.named_parameters():
        if p.requires_grad:
            values[name] = vector[start : start + p.numel()].view_as(p)
            start += p.numel()
    with sdpa_kernel(SDPBackend.MATH):  # the fused kernels have no second derivative
        return functional_call(network, values, (inputs,))


class Tied(nn.Module):
    """Two layers with one weight, a parameter that takes no part, and a frozen bias."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4, bias=False)
        self.second.weight = self.first.weight
        self.unused = nn.Parameter(torch.ones(3))
        self.first.bias.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.tanh(self.first(x)))


class Pictures(nn.Module):
    """A strided and a dilated, grouped convolution, BatchNorm and an average."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 2, 3, stride=2, padding=1),
            nn.BatchNorm2d(2),
            nn.Tanh(),
            nn.Conv2d(2, 4, 2, groups=2, dilation=2),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x.view(-1, 1, 6, 6))


class Attention(nn.Module):
    """One head of attention over four tokens, by the fused function."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(3, 9)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.mix(x.view(-1, 1, 4, 3)).split(3, -1)
        return F.scaled_dot_product_attention(q, k, v).mean((1, 2))


class Recurrent(nn.Module):
    """The last output of an LSTM."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(2, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.lstm(x.view(-1, 3, 2))[0][:, -1]


def case(make: Callable[[], nn.Module], width: int, loss: Loss, classes: int | None) -> tuple:
    torch.manual_seed(1)
    network = make().double().eval()
    inputs = torch.randn(50, width, dtype=torch.float64)
    outputs = network(inputs).shape[1:]
    targets = torch.randint(classes, (50,)) if classes else torch.randn(50, *outputs, dtype=torch.float64)
    return network, loss, inputs, targets


CASES = {
    "mlp, cross-entropy": (partial(MLP, [4, 6, 3], activation="tanh"), 4, CROSS_ENTROPY, 3),
    "mlp, squared error": (partial(MLP, [4, 6, 2], activation="gelu"), 4, SQUARED, None),
    "linear": (partial(MLP, [5, 1]), 5, SQUARED, None),
    "tied, unused and frozen": (Tied, 4, SQUARED, None),
    "convolutions and BatchNorm": (Pictures, 36, CROSS_ENTROPY, 4),
    "attention": (Attention, 12, CROSS_ENTROPY, 3),
    "lstm": (Recurrent, 6, CROSS_ENTROPY, 2),
}


@pytest.fixture(params=CASES, name="problem")
def _problem(request):
    return case(*CASES[request.param])


def cut(inputs: Tensor, targets: Tensor, size: int) -> list[tuple[Tensor, Tensor]]:
    return list(zip(inputs.split(size), targets.split(size), strict=True))


# Products


def test_products_are_those_of_the_dense_hessian(problem):
    network, loss, inputs, targets = problem
    expected = dense(network, loss, inputs, targets)
    assert len(expected) < 110
    products = HessianProducts(network, loss, cut(inputs, targets, 24))
    found = products @ torch.eye(products.size, dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(found, found.T, rtol=1e-10, atol=1e-12)
    assert products.products == products.size


def test_gradient_and_cost_come_with_it(problem):
    network, loss, inputs, targets = problem
    products = HessianProducts(network, loss, cut(inputs, targets, 24))
    parameters = [p for p in network.parameters() if p.requires_grad]
    cost = loss(network(inputs), targets)
    gradient = torch.autograd.grad(cost, parameters, materialize_grads=True)
    torch.testing.assert_close(products.gradient, products.flat(gradient), rtol=1e-12, atol=1e-14)
    assert products.cost == pytest.approx(float(cost.detach()), rel=1e-12)


@pytest.mark.parametrize("kind", [HessianProducts, GaussNewtonProducts])
def test_how_examples_are_cut_changes_rounding_only(problem, kind):
    network, loss, inputs, targets = problem
    one, three = (kind(network, loss, cut(inputs, targets, size)) for size in (50, 24))
    nothing_kept = kind(network, loss, cut(inputs, targets, 24), graph_memory=0)
    vector = torch.randn(one.size, dtype=torch.float64)
    whole = one @ vector
    assert (three @ vector - whole).norm() <= 1e-14 * whole.norm()
    assert torch.equal(three @ vector, nothing_kept @ vector)
    assert torch.equal(three @ vector, nothing_kept @ vector), "a second product from the same graphs"


def test_gauss_newton_is_that_of_the_dense_jacobian(problem):
    network, loss, inputs, targets = problem
    products = GaussNewtonProducts(network, loss, cut(inputs, targets, 24))
    vector = _vector(network)
    jacobian = jacrev(lambda v: _outputs(network, v, inputs))(vector).flatten(1, -2)  # [50, outputs, P]
    outputs = network(inputs).detach()
    bend = torch.stack(
        [
            hessian(lambda f, y=y: loss(f.unsqueeze(0), y.unsqueeze(0)))(f)
            for f, y in zip(outputs, targets, strict=True)
        ]
    )
    expected = torch.einsum("nap,nab,nbq->pq", jacobian, bend, jacobian) / 50
    found = products @ torch.eye(products.size, dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_a_loss_of_each_example_is_as_good_as_a_mean():
    network, loss, inputs, targets = case(*CASES["mlp, cross-entropy"])
    batches = cut(inputs, targets, 24)
    mean, each = (HessianProducts(network, form, batches) for form in (loss, loss.per_example))
    vector = torch.randn(mean.size, dtype=torch.float64)
    torch.testing.assert_close(each @ vector, mean @ vector, rtol=1e-13, atol=1e-15)


def test_memory_that_is_allowed_decides_how_many_graphs_are_kept():
    network, loss, inputs, targets = case(*CASES["mlp, cross-entropy"])
    batches = cut(inputs, targets, 10)
    vector = torch.randn(sum(p.numel() for p in network.parameters()), dtype=torch.float64)
    kept = []
    whole = HessianProducts(network, loss, batches)
    fixed = {p.untyped_storage().data_ptr() for p in network.parameters()}
    held = bytes_held(lambda: whole._graph(inputs, targets), fixed)
    for memory in (0, held / 2, 2**30):
        products = HessianProducts(network, loss, batches, graph_memory=memory)
        kept.append((products._keeping, products @ vector)[0] or len(products._kept))
    assert kept[0] == 0
    assert 0 < kept[1] < 5
    assert kept[2] == 5


def test_scipy_takes_it():
    network, loss, inputs, targets = case(*CASES["mlp, cross-entropy"])
    from scipy.sparse.linalg import eigsh

    products = HessianProducts(network, loss, cut(inputs, targets, 24))
    largest = eigsh(products.to_scipy(), k=1, which="LA", return_eigenvectors=False)[0]
    expected = torch.linalg.eigvalsh(dense(network, loss, inputs, targets))[-1]
    assert largest == pytest.approx(float(expected), rel=1e-8)


def test_nothing_of_the_network_changes():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3))
    network[0].eval()
    network[3].weight.grad = torch.ones(3, 8)
    before = copy.deepcopy(network)
    modes = [module.training for module in network.modules()]
    batches = [(torch.randn(12, 4), torch.randint(3, (12,)))]
    state = torch.get_rng_state()
    sharpness(network, CROSS_ENTROPY, batches, 2)
    trace(network, CROSS_ENTROPY, batches, 2)
    batch_sharpness(network, CROSS_ENTROPY, batches * 2)
    step_ratio(network, CROSS_ENTROPY, batches, torch.ones(sum(p.numel() for p in network.parameters())))
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in network.modules()] == modes
    assert torch.equal(network[3].weight.grad, torch.ones(3, 8))
    assert network[0].weight.grad is None
    for name, value in network.state_dict().items():
        assert torch.equal(value, before.state_dict()[name]), name
    assert torch.backends.cuda.flash_sdp_enabled()


def test_autocast_and_half_precision_are_left():
    network, loss, inputs, targets = case(*CASES["mlp, cross-entropy"])
    network, inputs = network.float(), inputs.float()
    vector = torch.ones(sum(p.numel() for p in network.parameters()))
    plain = HessianProducts(network, loss, [(inputs, targets)]) @ vector
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(HessianProducts(network, loss, [(inputs, targets)]) @ vector, plain)
    half = HessianProducts(copy.deepcopy(network).bfloat16(), loss, [(inputs.bfloat16(), targets)])
    assert (half @ vector).dtype == torch.float32
    assert (half @ vector - plain).norm() < 0.1 * plain.norm()


@pytest.mark.parametrize(
    ("spoil", "word"),
    [
        (lambda network, batches: (network.requires_grad_(False), batches), "no parameters"),
        (lambda network, batches: (network, []), "no examples"),
        (lambda network, batches: (torch.compile(network), batches), "torch.compile"),
    ],
)
def test_what_has_no_product_is_refused(spoil, word):
    network, batches = spoil(MLP([4, 3]), [(torch.randn(2, 4), torch.tensor([0, 1]))])
    with pytest.raises(UserError, match=word):
        HessianProducts(network, CROSS_ENTROPY, batches)


def test_closed_forms_of_the_hessian():
    """½θᵀAθ has A; ½‖Xw − y‖²/n has XᵀX/n whatever y, and so has its Gauss–Newton matrix."""
    matrix = symmetric([4.0, 2.0, -1.0, 0.5])
    network, batches = quadratic(matrix)
    found = HessianProducts(network, OUTPUT, batches) @ torch.eye(4, dtype=torch.float64)
    torch.testing.assert_close(found, matrix, rtol=1e-12, atol=1e-14)
    torch.manual_seed(0)
    x, linear = torch.randn(20, 3, dtype=torch.float64), nn.Linear(3, 1, bias=False).double()
    for y in torch.randn(2, 20, dtype=torch.float64):
        for kind in (HessianProducts, GaussNewtonProducts):
            found = kind(linear, SQUARED, cut(x, y, 7)) @ torch.eye(3, dtype=torch.float64)
            torch.testing.assert_close(found, x.T @ x / 20, rtol=1e-12, atol=1e-14)


# curvlinops, where it knows the loss


@pytest.mark.parametrize("name", CASES)
def test_curvlinops_has_the_same_numbers(name):
    """In float64 to 1e-10: the matrices themselves, traces with the same probes, eigenvalues by ARPACK."""
    network, loss, inputs, targets = case(*CASES[name])
    if name == "tied, unused and frozen":
        network.unused.requires_grad_(False)  # curvlinops asks for parameters that take part
    batches = cut(inputs, targets, 24)
    for kind, ours in (("Hessian", HessianProducts), ("GGN", GaussNewtonProducts)):
        matrix = ours(network, loss, batches)
        unit = torch.eye(matrix.size, dtype=torch.float64)
        dense_one = oracle_product(kind, copy.deepcopy(network), loss, batches)(unit)
        torch.testing.assert_close(matrix @ unit, dense_one, rtol=1e-10, atol=1e-12)
        probes = [signs(unit[0], 0, "trace", 0, k) for k in range(3)]
        draws = torch.stack([z @ dense_one @ z for z in probes])
        torch.testing.assert_close(trace_of(matrix, 3).draws, draws, rtol=1e-10, atol=1e-12)
        largest, _ = by_eigsh(lambda v, m=dense_one: m @ v, matrix.size)
        scale = float(torch.linalg.matrix_norm(dense_one, 2))
        found = sharpness_of(matrix, 2, 1e-13)
        assert found.values.tolist() == pytest.approx(largest.tolist(), abs=1e-9 * scale)
        density = spectral_density_of(matrix, matrix.size, 1)
        assert float(density.nodes.max()) == pytest.approx(float(largest[0]), abs=1e-9 * scale)


@pytest.mark.parametrize("name", ["mlp, cross-entropy", "mlp, squared error", "convolutions and BatchNorm"])
def test_curvlinops_has_the_same_gradients_of_examples(name):
    """Its empirical Fisher matrix F = Σg_i g_iᵀ/n: uᵀFu = Σ(g_i·u)²/n, and its trace is Σ‖g_i‖²/n."""
    network, loss, inputs, targets = case(*CASES[name])
    batches = cut(inputs, targets, 24)
    fisher = oracle_product("EF", copy.deepcopy(network), loss, batches)
    u = start_vector(_vector(network), 0, "test", 0)
    parts = u.split([p.numel() for p in network.parameters()])
    direction = {n: part.view_as(p) for (n, p), part in zip(network.named_parameters(), parts, strict=True)}
    found = example_gradients(network, loss, batches, direction)
    assert found.products is not None
    assert float(found.products.square().mean()) == pytest.approx(float(u @ fisher(u)), rel=1e-10)
    whole = fisher(torch.eye(len(u), dtype=torch.float64))
    assert float(found.squared_norms.mean()) == pytest.approx(float(whole.trace()), rel=1e-10)


# Lanczos

SPECTRA = {
    "apart": [100.0, 50.0, 30.0, *torch.linspace(0, 1, 57).tolist()],
    "three equal": [5.0, 5.0, 5.0, *torch.linspace(-1, 1, 57).tolist()],
    "indefinite": [3.0, 2.0, *torch.linspace(-0.5, 0.5, 57).tolist(), -10.0],
}


@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_chosen_spectrum_is_found(name, dtype):
    """The largest in sign, not in size; of equal ones at least one."""
    matrix = symmetric(SPECTRA[name]).to(dtype)
    spectrum = torch.tensor(sorted(SPECTRA[name], reverse=True), dtype=torch.float64)
    start = start_vector(torch.empty(60, dtype=dtype), 0, "test", 0)
    for count in (1, 2, 3):
        found = lanczos(matrix, start, count, 1e-6, vectors=True)
        assert found.converged
        assert (found.values[:, None] - spectrum).abs().min(1).values.max() < 1e-4
        if name != "three equal" or count == 1:
            assert found.values.tolist() == pytest.approx(spectrum[:count].tolist(), rel=1e-5, abs=1e-5)
        assert found.smallest >= float(spectrum[-1]) - 1e-4
        u = found.vectors.double()
        assert (u.T @ u - torch.eye(count)).abs().max() < 1e-5
        real = (matrix.double() @ u - u * found.values).norm(dim=0)
        assert (real - found.residuals).abs().max() < 1e-5 * float(spectrum.abs().max())
    if name == "indefinite":
        assert found.smallest == pytest.approx(-10, rel=1e-5)


def test_no_copies_of_the_largest_in_float32():
    """Without reorthogonalisation, 40 steps report 100 five times."""
    matrix = symmetric(SPECTRA["apart"]).float()
    found = lanczos(matrix, start_vector(torch.empty(60), 0, "test", 0), 3, 1e-12, most=40)
    assert found.values.tolist() == pytest.approx([100, 50, 30], rel=1e-4)


def test_a_warm_start_needs_fewer_products_and_does_not_miss_what_has_grown():
    """Eigenvectors of a Hessian that has changed a little; and of one whose third value has become first."""
    spectrum = [10.0, 8.0, 7.0, *torch.linspace(0, 5, 197).tolist()]
    matrix = symmetric(spectrum)
    cold = start_vector(matrix[0], 0, "test", 0)
    before = lanczos(matrix, cold, 2, vectors=True)
    nudge = symmetric(torch.linspace(-0.05, 0.05, 200).tolist(), seed=1)
    warm = warm_start(to_start_from(before), cold)
    again = lanczos(matrix + nudge, cold, 2), lanczos(matrix + nudge, warm, 2)
    assert again[1].products < again[0].products
    assert again[1].converged
    truth = torch.linalg.eigvalsh(matrix + nudge).flip(0)[:2].tolist()
    assert again[1].values.tolist() == pytest.approx(truth, rel=2e-3)
    basis = torch.linalg.eigh(matrix)[1]
    crossed = matrix + 5 * torch.outer(basis[:, -3], basis[:, -3])  # 7 becomes 12
    assert lanczos(crossed, warm, 2).values.tolist() == pytest.approx([12, 10], rel=2e-3)


@pytest.mark.parametrize(
    ("count", "first"), [(1, [10.0, 9.0, 5.5]), (2, [10.0, 8.0, 7.0, 6.9]), (3, [10.0, 8.0, 7.0, 6.9])]
)
def test_an_eigenvalue_that_the_start_hardly_sees_is_not_missed(count, first):
    """The last of them, close to the one that follows; the start has a tenth and a hundredth of its share."""
    spectrum = [*first, *torch.linspace(-1, 5, 200 - len(first)).tolist()]
    matrix = symmetric(spectrum)
    last = torch.linalg.eigh(matrix)[1][:, -count]
    for seed in range(5):
        random = start_vector(matrix[0], seed, "test", 0)
        for share in (0.1, 0.01):
            found = lanczos(matrix, random - (1 - share) * torch.dot(random, last) * last, count)
            assert found.converged
            assert found.values.tolist() == pytest.approx(spectrum[:count], rel=1e-3)


def test_one_eigenvalue_starts_the_same_whatever_an_earlier_step_found():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 4, generator=generator, dtype=torch.float64)
    y = (x[:, 0] > 0).long()
    network = MLP([4, 3, 2]).double()
    hessian = HessianProducts(network, CrossEntropy(), cut(x, y, 64))
    random = start_vector(hessian.gradient, 0, "test", 0)
    old = torch.eye(hessian.size, 2, dtype=torch.float64)
    assert torch.equal(start_for(hessian, random, 1, old), start_for(hessian, random, 1))
    assert torch.equal(start_for(hessian, random, 2, old), warm_start(old, random))
    assert torch.equal(start_for(hessian, random, 2), random)
    assert not Sharpness(warm=True).warm, "nothing is kept for it"


def test_a_cold_start_looks_at_a_part_of_the_examples_however_they_are_cut():
    """Against the dense Hessian. Products of the part count by its share."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(512, 6, generator=generator, dtype=torch.float64)
    y = (x @ torch.randn(6, 3, generator=generator, dtype=torch.float64)).argmax(1)
    torch.manual_seed(0)
    network = trained(MLP([6, 8, 3]).double(), x, y, 40)
    whole, in_parts = (HessianProducts(network, CrossEntropy(), cut(x, y, size)) for size in (512, 50))
    random = start_vector(whole.gradient, 0, "test", 0)
    start = cold_start(whole, random)
    torch.testing.assert_close(start, cold_start(in_parts, random), rtol=1e-10, atol=1e-12)
    assert part_of_start(512) == 64
    first = dense(network, CrossEntropy(), x[:64], y[:64])
    of_part = torch.linalg.eigh(first)[1][:, -1]
    assert abs(float(of_part @ start / start.norm())) > 0.8, "along the sharpest direction of the part"
    found = lanczos(whole, start, 1)
    truth = float(torch.linalg.eigvalsh(dense(network, CrossEntropy(), x, y))[-1])
    assert float(found.values[0]) == pytest.approx(truth, rel=2e-3)
    from_gradient = lanczos(whole, gradient_start(whole.gradient, random), 1)
    assert found.products + STEPS_OF_PART / 8 < from_gradient.products
    few = HessianProducts(network, CrossEntropy(), cut(x[:200], y[:200], 50))
    assert torch.equal(cold_start(few, random), gradient_start(few.gradient, random))


def test_spaces_overlap_as_their_bases_do():
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(50, 6, dtype=torch.float64, generator=generator))[0]
    turned = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=generator))[0]
    assert eigenspace_overlap(basis[:, :3], basis[:, :3] @ turned) == pytest.approx(1, rel=1e-12)
    assert eigenspace_overlap(basis[:, :3], basis[:, 3:]) == pytest.approx(0, abs=1e-15)
    half = torch.stack([basis[:, 0], (basis[:, 1] + basis[:, 4]) / 2**0.5], 1)
    assert eigenspace_overlap(basis[:, :2], half) == pytest.approx(0.75, rel=1e-12)


def test_what_was_found_earlier_is_kept_by_step():
    one = Earlier()
    assert one.before(0, 5) is None
    for step in (0, 4, 4, 9):
        one.keep(0, step, torch.full((2,), float(step)))
    assert one.before(0, 9)[0] == 4, "taken again at one step, the one before counts"
    assert one.before(0, 10)[0] == 9
    again = Earlier()
    again.restore([one.state(0), one.state(1)])
    assert again.before(0, 9)[1].tolist() == [4.0, 4.0]
    assert again.before(1, 9) is None


def test_an_invariant_space_ends_it():
    for matrix, values in ((torch.eye(5), [1.0]), (torch.zeros(5, 5), [0.0])):
        found = lanczos(matrix, torch.randn(5), 2)
        assert found.products == 1
        assert not found.converged, "there is one distinct eigenvalue, and two were asked for"
        assert found.values[:1].tolist() == pytest.approx(values, abs=1e-6)
        assert found.values[1].isnan()
        assert lanczos(matrix, torch.randn(5), 1).converged
    assert lanczos(torch.diag(torch.arange(4.0)), torch.ones(4), np.int64(2)).converged
    every = lanczos(torch.diag(torch.arange(4.0)), torch.ones(4), 4)
    assert every.converged
    assert every.values.tolist() == pytest.approx([3, 2, 1, 0], abs=1e-5)


def test_unconverged_and_not_finite_are_told():
    matrix = symmetric(torch.linspace(0, 1, 200).tolist())
    start = start_vector(matrix[0], 0, "test", 0)
    few = lanczos(matrix, start, 3, 1e-8, most=8)
    assert (few.products, few.converged) == (8, False)
    assert float(few.values[0]) < 1, "a Ritz value is a lower bound"
    broken = lanczos(matrix * math.nan, start)
    assert not broken.converged
    assert broken.values.isnan().all()
    with pytest.raises(UserError, match="count: 0"):
        lanczos(matrix, start, 0)


def test_the_start_depends_on_seed_purpose_and_step_alone():
    like = torch.empty(1000)
    one = start_vector(like, 3, "sharpness", 7)
    torch.manual_seed(5)
    assert torch.equal(one, start_vector(like, 3, "sharpness", 7))
    for other in ((4, "sharpness", 7), (3, "trace", 7), (3, "sharpness", 8)):
        assert abs(float(torch.cosine_similarity(one, start_vector(like, *other), 0))) < 0.2


def trained(network: nn.Module, inputs: Tensor, targets: Tensor, steps: int) -> nn.Module:
    """After some steps of SGD with lr 0.05 and B = 32."""
    optimizer = SGD(network.parameters(), lr=0.05)
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        chosen = torch.randint(len(inputs), (32,), generator=generator)
        optimizer.zero_grad()
        CROSS_ENTROPY(network(inputs[chosen]), targets[chosen]).backward()
        optimizer.step()
    return network


@pytest.mark.parametrize("name", ["mlp", "wrn"])
def test_products_that_a_network_needs(name, record_property):
    """The MLP 768-256-256-10 of the built-in pictures at half their size after 1000 steps, and WRN-10-1."""
    count = 400 if name == "mlp" else 64
    pictures, targets = shapes.draw(derive_key(0, "test"), torch.arange(count))
    inputs = PerChannel((0.5,) * 3, (0.25,) * 3)(pictures)
    torch.manual_seed(0)
    network = WideResNet(depth=10, width=1)
    if name == "mlp":
        inputs, network = F.avg_pool2d(inputs, 2), MLP([768, 256, 256, 10])
    network = trained(network, inputs, targets, 1000 if name == "mlp" else 10)
    products = HessianProducts(network, CROSS_ENTROPY, cut(inputs, targets, 200))
    for k, most in ((1, 8), (5, 22)):
        found = sharpness_of(products, k)
        record_property(f"top {k}", found.products)
        assert found.converged
        assert found.products <= most
        if name == "mlp":
            precise = sharpness_of(products, k, 1e-6)
            assert found.values.tolist() == pytest.approx(precise.values.tolist(), rel=2e-3)


def test_sharpness_is_that_of_the_dense_hessian(problem):
    network, loss, inputs, targets = problem
    values = torch.linalg.eigvalsh(dense(network, loss, inputs, targets)).flip(0)
    found = sharpness(network, loss, cut(inputs, targets, 24), 2, 1e-10, vectors=True)
    assert found.converged
    assert found.values.tolist() == pytest.approx(values[:2].tolist(), rel=1e-9)


def test_a_deep_linear_network_at_its_minimum():
    """½‖W₂W₁ − T‖² at W₂W₁ = T: λ₁ = max over pairs of (a_i + b_j), the squared singular values of the
    factors; with balanced factors 2σ₁ (Mulayoff & Michaeli 2020)."""
    sigma = torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64)
    network = DeepLinear([3, 3, 3]).double()
    with torch.no_grad():
        for weight in network.weights:
            weight.copy_(torch.diag(sigma.sqrt()))
    inputs = math.sqrt(3) * torch.eye(3, dtype=torch.float64)  # whitened
    targets = inputs @ torch.diag(sigma)
    found = sharpness(network, SQUARED, [(inputs, targets)], 1, 1e-10)
    assert float(found.values[0]) == pytest.approx(6.0, rel=1e-9)


# Limits of optimizers

OPTIMIZERS = {
    "gradient descent": partial(SGD, lr=0.3),
    "heavy ball": partial(SGD, lr=0.3, momentum=0.9),
    "heavy ball, dampened": partial(SGD, lr=0.3, momentum=0.8, dampening=0.5),
    "nesterov": partial(SGD, lr=0.3, momentum=0.9, nesterov=True),
    "weight decay": partial(SGD, lr=0.3, momentum=0.5, weight_decay=0.7),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize(("factor", "grows"), [(0.999, False), (1.001, True)])
def test_a_quadratic_contracts_below_the_limit_and_grows_above(name, factor, grows):
    theta = nn.Parameter(torch.ones(1, dtype=torch.float64))
    optimizer = OPTIMIZERS[name]([theta])
    limit = stability_limit(optimizer)
    curvature = factor * (limit.sharpness + limit.shift) - limit.shift
    assert limit.lr_times(curvature) == pytest.approx(factor * limit.limit)
    sizes = []
    for _ in range(8000):
        optimizer.zero_grad()
        (0.5 * curvature * theta.square().sum()).backward()
        optimizer.step()
        sizes.append(abs(theta.item()))
    assert (max(sizes[-100:]) > max(sizes[5000:5100])) == grows


@pytest.mark.parametrize("kind", [Adam, AdamW])
@pytest.mark.parametrize(("factor", "grows"), [(0.999, False), (1.001, True)])
def test_adam_with_constant_second_moments(kind, factor, grows):
    """Iterated with D = 1; weight decay inside Adam's gradient is part of the curvature."""
    decay, beta, lr = 0.4, 0.9, 0.05
    optimizer = kind([nn.Parameter(torch.ones(1))], lr=lr, betas=(beta, 0.999), weight_decay=decay)
    curvature = factor * stability_limit(optimizer).sharpness
    theta, m, sizes = 1.0, 0.0, []
    for _ in range(20_000):
        m = beta * m + (1 - beta) * curvature * theta
        theta = theta * (1 - lr * decay if kind is AdamW else 1) - lr * m
        sizes.append(abs(theta))
    assert (max(sizes[-100:]) > max(sizes[5000:5100])) == grows


def test_the_limit_of_other_optimizers_is_not_known():
    parameter = nn.Parameter(torch.ones(1))
    with pytest.raises(UserError, match="not known of RMSprop; allowed: SGD, Adam, AdamW"):
        stability_limit(torch.optim.RMSprop([parameter]))
    groups = SGD([{"params": [parameter]}, {"params": [nn.Parameter(torch.ones(1))], "lr": 2.0}], lr=1.0)
    with pytest.raises(UserError, match="2 groups"):
        stability_limit(groups)


def test_a_sum_over_a_batch_is_a_larger_step():
    optimizer = SGD([nn.Parameter(torch.ones(1))], lr=0.1, weight_decay=0.5)
    assert stability_limit(optimizer, 10).lr_times(3.0) == pytest.approx(0.1 * (10 * 3 + 0.5))


# Curvature along directions


def test_directional_sharpness_and_alignment_on_a_quadratic():
    matrix = symmetric([4.0, 2.0, 1.0, 0.5])
    network, batches = quadratic(matrix)
    g = matrix @ network.theta.detach() + batches[0][0].mean(0)
    along = float(g @ matrix @ g / (g @ g))
    assert directional_sharpness(network, OUTPUT, batches) == pytest.approx(along, rel=1e-12)
    assert alignment(network, OUTPUT, batches, 1e-10) == pytest.approx(along / 4, rel=1e-9)
    d = torch.tensor([1.0, -2.0, 0.0, 3.0], dtype=torch.float64)
    bent = float(d @ matrix @ d / (d @ d))
    assert directional_sharpness(network, OUTPUT, batches, d) == pytest.approx(bent, rel=1e-12)
    top = torch.linalg.eigh(matrix)[1][:, -2:]
    share = float((top.T @ g).square().sum() / (g @ g))
    assert overlap(network, OUTPUT, batches, 2, 1e-10) == pytest.approx(share, rel=1e-9)


def test_an_overlap_with_a_space_that_is_not_known_is_refused():
    network, batches = quadratic(symmetric([4.0, 2.0, 1.0, 0.5]))
    products = HessianProducts(network, OUTPUT, batches)
    found = sharpness_of(products, 1, 0.3, vectors=True)
    close = replace(found, gap=1.9 * float(found.residuals[-1]))
    with pytest.raises(UserError, match="less than twice the residual"):
        overlap_of(products, close)


def test_batch_sharpness_of_minibatches_that_can_be_enumerated():
    """Least squares with six examples: all fifteen minibatches of two."""
    torch.manual_seed(0)
    x, y = torch.randn(6, 3, dtype=torch.float64), torch.randn(6, dtype=torch.float64)
    network = nn.Linear(3, 1, bias=False).double()
    expected, lengths = [], []
    minibatches = [list(chosen) for chosen in combinations(range(6), 2)]
    for chosen in minibatches:
        error = x[chosen] @ network.weight.detach()[0] - y[chosen]
        g = x[chosen].T @ error / 2
        lengths.append(float(g @ g))
        expected.append(float((x[chosen] @ g).square().mean()) / lengths[-1])
    found = batch_sharpness(network, SQUARED, [(x[c], y[c]) for c in minibatches])
    assert found.quotients.tolist() == pytest.approx(expected, rel=1e-12)
    assert found.mean.value == pytest.approx(sum(expected) / 15, rel=1e-12)
    weighted = sum(q * s for q, s in zip(expected, lengths, strict=True)) / sum(lengths)
    assert found.of_means.value == pytest.approx(weighted, rel=1e-12)
    assert found.mean.low < found.mean.value < found.mean.high
    assert (found.of_means.low, found.of_means.high) == (-math.inf, math.inf)  # of fewer than 100
    often = batch_sharpness(network, SQUARED, [(x[c], y[c]) for c in 7 * minibatches])
    assert -math.inf < often.of_means.low < weighted < often.of_means.high < math.inf


def test_minibatches_are_drawn_by_key_without_repeats():
    batches = cut(torch.arange(20.0), torch.arange(20), 7)
    key = derive_key(0, "test")
    drawn = [targets.tolist() for _, targets in drawn_minibatches(batches, 6, 5, key)]
    assert drawn == [targets.tolist() for _, targets in drawn_minibatches(batches, 6, 5, key)]
    assert all(len(set(each)) == 6 for each in drawn)
    assert len({tuple(each) for each in drawn}) == 5
    assert len(next(drawn_minibatches(batches, 50, 1, key))[1]) == 20


def test_step_ratio_is_one_on_a_quadratic():
    network, batches = quadratic(symmetric([4.0, 2.0, -1.0, 0.5]))
    for seed in range(3):
        d = start_vector(network.theta.detach(), seed, "test", 0)
        found = step_ratio(network, OUTPUT, batches, d)
        assert found.ratio == pytest.approx(1, rel=1e-12)
        assert found.along == pytest.approx(float(d @ network.matrix @ d / (d @ d)), rel=1e-12)
    assert math.isnan(step_ratio(network, OUTPUT, batches, torch.zeros(4)).ratio)


def test_step_ratio_of_a_network(problem):
    network, loss, inputs, targets = problem
    d = 0.01 * start_vector(_vector(network), 0, "test", 0)
    found = step_ratio(network, loss, cut(inputs, targets, 24), d)
    here, there = (loss(_outputs(network, _vector(network) + f * d, inputs), targets) for f in (0, 1))
    assert found.change == pytest.approx(float((there - here).detach()), rel=1e-9, abs=1e-14)


# Trace and spectrum


def test_one_probe_is_exact_on_a_diagonal():
    matrix = torch.diag(torch.tensor([3.0, -1.0, 0.5, 7.0, 2.0], dtype=torch.float64))
    network, batches = quadratic(matrix)
    found = trace(network, OUTPUT, batches, probes=1)
    assert found.trace.value == pytest.approx(11.5, rel=1e-14)
    assert found.squared_norm.value == pytest.approx(float(matrix.square().sum()), rel=1e-14)
    assert found.effective_rank == pytest.approx(11.5**2 / float(matrix.square().sum()))
    assert found.trace.high == math.inf, "one draw has no interval"


def test_trace_and_its_interval():
    """Unbiased, with the variance that theory gives; the interval covers the truth 0.92 to 0.98 times."""
    matrix = symmetric(torch.linspace(-1, 2, 30).tolist())
    network, batches = quadratic(matrix)
    products = HessianProducts(network, OUTPUT, batches)
    estimates = [trace_of(products, 12, seed) for seed in range(400)]
    draws = torch.cat([found.draws for found in estimates])
    truth, norm = float(matrix.trace()), float(matrix.square().sum())
    variance = 2 * (norm - float(matrix.diag().square().sum()))
    assert float(draws.mean()) == pytest.approx(truth, abs=4 * math.sqrt(variance / len(draws)))
    assert float(draws.var()) == pytest.approx(variance, rel=0.15)
    covered = sum(found.trace.low <= truth <= found.trace.high for found in estimates) / 400
    assert 0.92 <= covered <= 0.98


def test_traces_of_parameters_add_up():
    network, loss, inputs, targets = case(*CASES["mlp, cross-entropy"])
    found = trace(network, loss, cut(inputs, targets, 24), 400)
    assert sum(block.value for block in found.by_parameter) == pytest.approx(found.trace.value, rel=1e-10)
    diagonal = dense(network, loss, inputs, targets).diag()
    blocks = diagonal.split([p.numel() for p in network.parameters()])
    covered = [
        e.low <= float(block.sum()) <= e.high for e, block in zip(found.by_parameter, blocks, strict=True)
    ]
    assert sum(covered) >= len(covered) - 1


def test_moments_of_the_spectral_density():
    """Exact over a basis of start vectors; within their spread over random ones."""
    matrix = symmetric([9.0, 4.0, *torch.linspace(-1, 1, 38).tolist()])
    network, batches = quadratic(matrix)
    products = HessianProducts(network, OUTPUT, batches)
    found = spectral_density_of(products, steps=40, starts=200)
    torch.testing.assert_close(found.weights.sum(1), torch.ones(200, dtype=torch.float64))
    for power in range(4):
        truth = float(torch.linalg.matrix_power(matrix, power).trace()) / 40
        draws = found.moment(power)
        assert float(draws.mean()) == pytest.approx(
            truth, abs=4 * float(draws.std()) / math.sqrt(200) + 1e-12
        )
    values = torch.linalg.eigvalsh(matrix)
    for point in (-0.5, 0.0, 0.5, 2.0, 6.0):
        share = float((values < point).double().mean())
        assert float(found.share_below(point).mean()) == pytest.approx(share, abs=0.02)


@pytest.mark.parametrize("name", SPECTRA)
def test_the_spectral_measure_has_the_distribution_of_the_dense_spectrum(name):
    """The largest distance between the two distribution functions, blurred alike, is below 0.02."""
    matrix = symmetric(SPECTRA[name])
    network, batches = quadratic(matrix)
    found = spectral_density_of(HessianProducts(network, OUTPUT, batches), steps=60, starts=100)
    values, span = torch.linalg.eigvalsh(matrix), max(SPECTRA[name]) - min(SPECTRA[name])
    grid = torch.linspace(float(values[0]) - span / 5, float(values[-1]) + span / 5, 500, dtype=torch.float64)
    width = span / 50
    blurred = torch.special.ndtr((grid[:, None] - values) / width).mean(1)
    density, _ = found.density(grid, width)
    distribution = torch.cumulative_trapezoid(density, grid)
    assert float((distribution - blurred[1:]).abs().max()) < 0.02


def test_density_integrates_to_one_and_ends_with_the_space():
    network, batches = quadratic(torch.diag(torch.tensor([1.0, 1.0, 1.0, 3.0], dtype=torch.float64)))
    found = spectral_density_of(HessianProducts(network, OUTPUT, batches), steps=40, starts=3)
    assert found.nodes.shape == (3, 4)
    grid = torch.linspace(-2, 6, 2001, dtype=torch.float64)
    density, spread = found.density(grid, 0.1)
    assert float(torch.trapezoid(density, grid)) == pytest.approx(1, abs=1e-6)
    assert spread.shape == grid.shape


# Adam


def test_preconditioned_sharpness_is_that_of_the_dense_matrix():
    network, loss, inputs, targets = case(*CASES["mlp, cross-entropy"])
    optimizer = Adam(network.parameters(), lr=1e-2, weight_decay=0.1)
    for _ in range(5):
        optimizer.zero_grad()
        loss(network(inputs), targets).backward()
        optimizer.step()
    diagonal = adam_preconditioner(optimizer, network.parameters())
    state = optimizer.state[next(network.parameters())]
    corrected = (state["exp_avg_sq"] / (1 - 0.999**5)).sqrt() + 1e-8
    torch.testing.assert_close(diagonal[: corrected.numel()], ((1 - 0.9**5) * corrected).flatten())
    matrix = dense(network, loss, inputs, targets) + 0.1 * torch.eye(len(diagonal))
    expected = torch.linalg.eigvalsh(matrix / diagonal.sqrt() / diagonal.sqrt()[:, None])[-1]
    found = preconditioned_sharpness(network, loss, cut(inputs, targets, 24), optimizer, 1e-10)
    assert found.converged
    assert float(found.values[0]) == pytest.approx(float(expected), rel=1e-8)
    products = HessianProducts(network, loss, cut(inputs, targets, 24))
    one = Preconditioned(products, diagonal, 0.1)
    u, v = (start_vector(diagonal, seed, "test", 0) for seed in range(2))
    assert float(u @ (one @ v)) == pytest.approx(float(v @ (one @ u)), rel=1e-8)


def test_preconditioners_that_are_not_known_are_refused():
    parameter = nn.Parameter(torch.ones(1))
    with pytest.raises(UserError, match="not known of SGD; allowed: Adam, AdamW"):
        adam_preconditioner(SGD([parameter], lr=1.0), [parameter])
    with pytest.raises(UserError, match="before its first update"):
        adam_preconditioner(Adam([parameter]), [parameter])


# In a run

TAKEN = "[Sharpness,Alignment,BatchSharpness,DirectionalSharpness,StepRatio,Trace,SpectralDensity]"


def test_a_run_takes_them_and_does_not_notice(tmp_path):
    runs = Runs(tmp_path)
    report = ["--trainer.callbacks=sgdlit.training.measuring.Measures"]
    report += [f"--trainer.callbacks.measures={TAKEN}", "--trainer.callbacks.every_n_steps=10"]
    report += ["--trainer.callbacks.examples=null", "--trainer.callbacks.chunk_size=24"]
    assert runs.fit("plain") == 0
    assert runs.fit("measured", *report) == 0
    states = [runs.checkpoint(name)["state_dict"] for name in ("plain", "measured")]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    rows = [row for row in runs.rows("measured") if row["measure/sharpness"]]
    assert [row["step"] for row in rows] == ["0", "10", "20"]
    assert [bool(row["measure/step_ratio"]) for row in rows] == [False, True, True]
    data = datamodule(runs)
    images, labels = data.subsets["train"].take(torch.arange(60))
    network = MLP([784, 16, 10])
    network.load_state_dict({name.removeprefix("networks.0."): v for name, v in states[1].items()})
    batches = [(data.standardise(images), labels)]
    last = {name: float(value) for name, value in rows[-1].items() if name.startswith("measure/")}
    largest = float(sharpness(network, CROSS_ENTROPY, batches, 1, 1e-6).values[0])
    assert last["measure/sharpness"] == pytest.approx(largest, rel=2e-3)
    along = directional_sharpness(network, CROSS_ENTROPY, batches)
    assert last["measure/directional_sharpness"] == pytest.approx(along, rel=1e-4)
    assert last["measure/alignment"] == pytest.approx(along / largest, rel=3e-3)
    assert last["measure/sharpness_over_limit"] == pytest.approx(
        last["measure/lr_times_sharpness"] / 2 / (1 + 0.9), rel=1e-6
    )
    assert last["measure/spectrum_largest"] == pytest.approx(largest, rel=1e-3)
    assert 0.3 < last["measure/step_ratio"] < 3
    assert last["measure/trace_low"] <= last["measure/trace"] <= last["measure/trace_high"]


def test_adam_in_a_run_of_two_members(tmp_path):
    runs = Runs(tmp_path)
    given = ["--model.optimizer=torch.optim.Adam", "--model.optimizer.lr=0.001"]
    given += ["--trainer.callbacks=sgdlit.training.measuring.Measures"]
    given += ["--trainer.callbacks.measures=[PreconditionedSharpness,Sharpness]"]
    given += ["--trainer.callbacks.every_n_steps=10", "--trainer.callbacks.examples=50"]
    assert runs.fit("adam", *given, "--ensemble=[{seed_everything: [3, 0]}]") == 0
    rows = [row for row in runs.rows("adam") if row["measure/sharpness"]]
    assert [(row["step"], row["member"]) for row in rows] == [(s, m) for s in ("0", "10", "20") for m in "01"]
    assert not any(row["measure/lr_times_sharpness"] for row in rows if "measure/lr_times_sharpness" in row)
    for row in rows[2:]:
        found = float(row["measure/preconditioned_sharpness"])
        over = float(row["measure/preconditioned_sharpness_over_limit"])
        assert over == pytest.approx(0.001 * found / 38, rel=1e-6)
    assert not rows[0]["measure/preconditioned_sharpness"]
