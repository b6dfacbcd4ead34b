"""Networks that were not written for this: every measure of the first release agrees with second
implementations to 1e-4, or one sentence says why not; and nothing of them is changed.

The second implementations are curvlinops where it can, else plain gradients and their differences, see
``tests/second_implementation.py``; they work on a float64 copy.
"""

import copy
import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import second_implementation as second
import torch
from foreign_networks import FOREIGN, Foreign
from torch import Tensor, nn

from sgdlit.foundations.errors import UserError
from sgdlit.measures import (
    GaussNewtonProducts,
    HessianProducts,
    alignment,
    batch_sharpness,
    c_reg_parts,
    directional_sharpness,
    example_norms,
    gradient_noise,
    gradient_norm,
    noise_of_batch,
    overlap,
    sharpness,
    singular_values,
    step_ratio,
    trace,
    train_test_gap,
    weight_matrices,
    weight_norms,
)
from sgdlit.measures.estimate import signs

pytestmark = pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")  # of vmap

CLOSE = 1e-4
SIZES = (5, 5, 2)  # of batches of 12 examples
KNOWN = [name for name, one in FOREIGN.items() if not one.draws and "all" not in one.refused]


class Problem:
    """A network, its loss and batches; and the same in float64, for the second implementations."""

    def __init__(self, one: Foreign) -> None:
        self.one, self.network, self.loss = one, one.network(), one.cost
        x, y = one.batch()
        self.batches = list(zip(x.split(SIZES), y.split(SIZES), strict=True))
        self.twin = copy.deepcopy(self.network).double()
        x, y = (t.double() if t.is_floating_point() else t for t in (x, y))
        self.twins = list(zip(x.split(SIZES), y.split(SIZES), strict=True))

    def gradient(self) -> Tensor:
        return second.plain_gradient(self.twin, self.loss, whole(self))

    def examples(self) -> Tensor:
        return second.example_gradients(self.twin, self.loss, self.twins).double()

    def product(self, batches: second.Batches | None = None) -> second.Product:
        batches = self.twins if batches is None else batches
        if self.one.oracle is True:
            return second.oracle_product("Hessian", copy.deepcopy(self.twin), self.loss, batches)
        if self.one.stops:
            return second.plain_product(self.twin, self.loss, batches)
        return second.differences(self.twin, self.loss, batches)


@pytest.fixture(params=KNOWN, name="problem")
def _problem(request) -> Problem:
    return Problem(FOREIGN[request.param])


def close(found: float | Tensor, expected: float | Tensor, scale: float = 0.0) -> None:
    """Equal to 1e-4, relative to the largest number or to a scale."""
    f, e = (torch.as_tensor(value, dtype=torch.float64).detach() for value in (found, expected))
    assert f.shape == e.shape
    assert float((f - e).abs().max()) <= CLOSE * max(float(e.abs().max()), scale), (f, e)


def refused(problem: Problem, kind: str, measure: Callable[[], object]) -> bool:
    """Whether a kind of measures is refused, as it has to be, by one sentence that says why."""
    words = problem.one.refused.get(kind)
    if words is None:
        return False
    with pytest.raises(UserError, match=words) as raised:
        measure()
    assert "allowed" in str(raised.value)
    assert "\n" not in str(raised.value)
    return True


def test_the_gradient_and_its_layers(problem):
    found = gradient_norm(problem.network, problem.loss, whole(problem, problem.network))
    close(sum(found.values()), float(problem.gradient().double().square().sum()))


def test_gradients_of_examples_and_their_noise(problem):
    network, loss, batches = problem.network, problem.loss, problem.batches
    if refused(problem, "examples", lambda: example_norms(network, loss, batches)):
        assert refused(problem, "examples", lambda: gradient_noise(network, loss, batches))
        assert refused(problem, "examples", lambda: c_reg_parts(network, loss, batches, [4]))
        return
    g = problem.examples()
    mean, n = g.mean(0), len(g)
    close(example_norms(network, loss, batches), g.square().sum(1))
    noise = gradient_noise(network, loss, batches, population=n)
    trace_of_noise = float((g - mean).square().sum() / (n - 1))
    close(noise.covariance_trace, trace_of_noise)
    close(noise.squared_gradient, float(mean @ mean), scale=trace_of_noise / n)
    parts = c_reg_parts(network, loss, batches, [4])
    close(parts.of_gradient, float(mean @ mean) / 4, scale=trace_of_noise / n)
    close(parts.of_noise[4], (1 / 4 - 1 / n) * trace_of_noise / 4)


def test_the_noise_of_micro_batches(problem):
    if "examples" in problem.one.refused:
        return  # an example's gradient is none, and a part's is another one's: see the batch measures below
    x, y = (torch.cat(parts) for parts in zip(*problem.batches, strict=True))
    found = noise_of_batch(problem.network, problem.loss, (x, y), 3, population=12)
    g = problem.examples()
    h = g.view(3, 4, -1).mean(1)
    spread = 4 * float(h.square().sum()) - 12 * float(g.mean(0).square().sum())
    close(found.covariance_trace, spread / 2, scale=float(g.square().sum()) / 12)


def test_products_and_all_that_follows_from_them(problem):
    network, loss, batches = problem.network, problem.loss, problem.batches
    products = lambda: HessianProducts(network, loss, batches) @ torch.ones(size)  # noqa: E731
    size = sum(p.numel() for p in second.trained(network))
    if refused(problem, "products", products):
        return
    oracle = problem.product(whole(problem))
    hessian = HessianProducts(network, loss, whole(problem, network))
    assert hessian.size == size
    generator = torch.Generator().manual_seed(3)
    v, w = (torch.randn(size, generator=generator, dtype=torch.float64) for _ in range(2))
    close(hessian @ v, oracle(v))
    bent = (hessian @ v).double(), (hessian @ w).double()
    close(w @ bent[0], v @ bent[1], scale=float(bent[0].norm() * w.norm()))
    g = second.plain_gradient(problem.twin, loss, whole(problem))
    close(hessian.gradient, g)
    along = float(g @ oracle(g) / (g @ g))
    close(directional_sharpness(network, loss, whole(problem, network)), along)

    values, u = second.by_eigsh(oracle, size)
    lowest = second.by_eigsh(oracle, size, "SA", 1)[0][0]
    tolerance = 1e-10 if problem.one.dtype == torch.float64 else 1e-7
    top = sharpness(network, loss, whole(problem, network), 2, tolerance, vectors=True)
    scale = max(abs(float(values[0])), abs(float(lowest)))
    close(top.values, values, scale=scale)
    assert top.smallest >= float(lowest) - CLOSE * scale
    ratio = alignment(network, loss, whole(problem, network), tolerance)
    close(ratio, along / float(values[0]), scale=1.0)
    if float(values[0] - values[1]) > 0.01 * scale:
        share = overlap(network, loss, whole(problem, network), 1, tolerance)
        close(share, float((u @ g) ** 2 / (g @ g)), scale=1.0)

    estimate = trace(network, loss, whole(problem, network), probes=3)
    probes = [signs(v, 0, "trace", 0, k) for k in range(3)]
    draws = torch.stack([torch.dot(z, oracle(z)).double() for z in probes])
    close(estimate.draws, draws, scale=float(oracle(probes[0]).norm()))
    squares = [float(oracle(z).square().sum()) for z in probes]
    close(estimate.squared_norm.value, float(np.mean(squares)))

    d = -0.1 * g
    step = step_ratio(network, loss, whole(problem, network), d)
    moved = copy.deepcopy(problem.twin)
    with torch.no_grad():
        second.move(moved, d)
    change = cost_of(moved, loss, whole(problem)) - cost_of(problem.twin, loss, whole(problem))
    predicted = float(g.double() @ d.double() + 0.5 * torch.dot(d, oracle(d)).double())
    of_float32 = 0.0 if problem.one.dtype == torch.float64 else 1e-2
    close(step.change, change, scale=of_float32 * cost_of(problem.twin, loss, whole(problem)))
    close(step.predicted, predicted)


def test_batch_sharpness(problem):
    network, loss = problem.network, problem.loss
    if refused(problem, "products", lambda: batch_sharpness(network, loss, problem.batches)):
        return
    expected = []
    for batch in problem.twins:
        g = second.plain_gradient(problem.twin, loss, [batch])
        expected.append(float(g @ problem.product([batch])(g) / (g @ g)))
    found = batch_sharpness(network, loss, problem.batches)
    close(found.quotients, torch.tensor(expected))
    close(found.mean.value, float(np.mean(expected)), scale=max(map(abs, expected)))


def test_gauss_newton(problem):
    network, loss, batches = problem.network, problem.loss, problem.batches
    make = lambda: GaussNewtonProducts(network, loss, batches) @ torch.ones(size)  # noqa: E731
    size = sum(p.numel() for p in second.trained(network))
    if refused(problem, "gauss-newton", make) or refused(problem, "products", make):
        return
    v = torch.randn(size, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    found = GaussNewtonProducts(network, loss, whole(problem, network)) @ v
    if problem.one.oracle is True:
        expected = second.oracle_product("GGN", copy.deepcopy(problem.twin), loss, whole(problem))(v)
    else:
        expected = second.plain_gauss_newton(problem.twin, loss, whole(problem), v)
    close(found, expected)


def test_weights_and_the_gap(problem):
    network, loss, batches = problem.network, problem.loss, problem.batches
    of_layers = weight_norms(network)
    expected = sum(float(p.detach().double().square().sum()) for p in second.trained(network))
    close(sum(norm**2 for norm in of_layers.values()), expected)
    for name, matrix in weight_matrices(network).items():
        own = dict(network.named_parameters())[name].detach().double().flatten(1)
        close(singular_values(matrix.double()), np.linalg.svd(own.numpy(), compute_uv=False).copy())
    if problem.one.training or "examples" in problem.one.refused:
        return
    own, other = (cost_of(problem.twin, loss, part) for part in (problem.twins[:2], problem.twins[2:]))
    gap = train_test_gap(network, loss, batches[:2], batches[2:])
    close(gap.gap, other - own, scale=own)


@pytest.mark.parametrize("name", FOREIGN)
def test_nothing_of_it_changes(name):
    problem = Problem(FOREIGN[name])
    network, loss, batches = problem.network, problem.loss, problem.batches
    before = {n: t.clone() for n, t in network.state_dict().items()}
    inputs = [x.clone() for x, _ in batches]
    held = {n: b.data_ptr() for n, b in network.named_buffers()}
    torch.manual_seed(5)
    state, modes = torch.get_rng_state(), [m.training for m in network.modules()]
    for measure in every_measure(network, loss, batches):
        try:
            measure()
        except UserError:
            assert FOREIGN[name].refused
    assert torch.equal(torch.get_rng_state(), state)
    assert [m.training for m in network.modules()] == modes
    assert all(torch.equal(before[n], t) for n, t in network.state_dict().items())
    assert all(torch.equal(x, y) for (x, _), y in zip(batches, inputs, strict=True))
    assert {n: b.data_ptr() for n, b in network.named_buffers()} == held
    assert all(p.grad is None for p in network.parameters())


@pytest.mark.parametrize("name", [name for name, one in FOREIGN.items() if one.draws])
def test_a_network_that_draws_has_one_hessian_all_the_same(name):
    """Every pass over a batch draws the same; single examples are refused."""
    problem = Problem(FOREIGN[name])
    network, loss, batches = problem.network, problem.loss, problem.batches
    torch.manual_seed(3)
    for memory in (None, 0):
        hessian = HessianProducts(network, loss, batches, graph_memory=memory)
        v, w = (torch.randn(hessian.size, dtype=torch.float64) for _ in range(2))
        assert float(w @ (hessian @ v)) == pytest.approx(float(v @ (hessian @ w)), rel=1e-10)
        assert torch.equal(hessian @ v, hessian @ v)
    assert refused(problem, "examples", lambda: example_norms(network, loss, batches))


@pytest.mark.parametrize("name", [name for name, one in FOREIGN.items() if "all" in one.refused])
def test_what_has_no_gradient_is_told_so(name):
    problem = Problem(FOREIGN[name])
    for measure in every_measure(problem.network, problem.loss, problem.batches):
        assert refused(problem, "all", measure)


def every_measure(network: nn.Module, loss, batches) -> Iterator[Callable[[], object]]:
    yield lambda: gradient_norm(network, loss, batches)
    yield lambda: example_norms(network, loss, batches)
    yield lambda: gradient_noise(network, loss, batches)
    yield lambda: c_reg_parts(network, loss, batches, [4])
    yield lambda: sharpness(network, loss, batches, 1)
    yield lambda: trace(network, loss, batches, 2)
    yield lambda: batch_sharpness(network, loss, batches)
    yield lambda: directional_sharpness(network, loss, batches)
    yield lambda: step_ratio(network, loss, batches, torch.ones(max(1, len(flat_of(network)))))


def whole(problem: Problem, network: nn.Module | None = None) -> list[tuple[Tensor, Tensor]]:
    """All examples: in the batches of ours, or in those of the second implementation; in one batch where
    examples are coupled, since the Hessian is of whole batches then."""
    batches = problem.twins if network is None else problem.batches
    if "examples" in problem.one.refused:
        return [tuple(torch.cat(parts) for parts in zip(*batches, strict=True))]
    return batches


def flat_of(network: nn.Module) -> Tensor:
    parts = [p.detach().reshape(-1) for p in second.trained(network)]
    return torch.cat(parts) if parts else torch.zeros(0)


def cost_of(network: nn.Module, loss, batches) -> float:
    x, y = (torch.cat(parts) for parts in zip(*batches, strict=True))
    with torch.no_grad():
        return float(loss(copy.deepcopy(network)(x.clone()), y))


def test_there_are_twenty_of_them_and_more():
    assert len(KNOWN) >= 20
    assert math.isfinite(CLOSE)
