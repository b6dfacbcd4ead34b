"""Linear stability of SGD against the enumeration of all minibatches."""

from itertools import combinations

import pytest
import torch
from torch import Tensor, nn

from sgdlit.foundations.errors import UserError
from sgdlit.measures import LinearStability, example_hessians, linear_stability, stable_rate
from sgdlit.models import MLP
from sgdlit.objectives import HalfSquaredError

LOSS = HalfSquaredError()


def moments(hessians: Tensor, batch_size: int, lr: float) -> Tensor:
    """E[J ⊗ J], J = I − εĤ, over all minibatches: what a step does to E wwᵀ, ``[P², P²]``."""
    size = hessians.shape[1]
    found = torch.zeros(size**2, size**2, dtype=torch.float64)
    every = list(combinations(range(len(hessians)), batch_size))
    for chosen in every:
        j = torch.eye(size, dtype=torch.float64) - lr * hessians[list(chosen)].mean(0)
        found += torch.kron(j, j) / len(every)
    return found


def least_squares(width: int, count: int) -> tuple[nn.Module, Tensor, Tensor]:
    """At weights that fit every example."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(count, width, generator=generator, dtype=torch.float64)
    network = nn.Linear(width, 1, bias=False).double()
    with torch.no_grad():
        network.weight.copy_(torch.linspace(1, 2, width).unsqueeze(0))
        return network, x, network(x).squeeze(1)


@pytest.mark.parametrize(("width", "count", "batch_size"), [(2, 5, 2), (3, 6, 1), (3, 6, 5), (4, 3, 2)])
def test_at_the_limit_the_second_moment_neither_grows_nor_falls(width, count, batch_size):
    """Spectral radius 1 of the enumerated map, and after 300 steps from any start less at 0.95 of the limit
    and more at 1.05. With fewer examples than weights some directions are flat, and stay as they are."""
    network, x, y = least_squares(width, count)
    found = linear_stability(network, LOSS, [(x[:2], y[:2]), (x[2:], y[2:])], batch_size)
    hessians = x.unsqueeze(2) * x.unsqueeze(1)
    radius = float(torch.linalg.eigvalsh(moments(hessians, batch_size, found.limit)).abs().max())
    assert radius == pytest.approx(1, abs=1e-9)
    assert found.limit <= found.sharpness_limit * (1 + 1e-12)
    spanned = torch.linalg.svd(x, full_matrices=False)[2]
    start = (spanned.T @ spanned).flatten()
    for factor, grows in ((0.95, False), (1.05, True)):
        moment, step = start, moments(hessians, batch_size, factor * found.limit)
        for _ in range(300):
            moment = step @ moment
        assert (float(moment.norm()) > float(start.norm())) is grows


def test_runs_of_sgd_stay_below_the_limit_and_leave_above():
    """20 000 runs of B = 2 of 5, as they are drawn: the mean of ‖w‖² after 12 steps, and its expectation."""
    _, x, _ = least_squares(2, 5)
    hessians = x.unsqueeze(2) * x.unsqueeze(1)
    limit, _ = stable_rate(hessians, 2)
    generator = torch.Generator().manual_seed(0)
    ends = []
    for factor in (0.95, 1.05):
        w = torch.ones(20000, 2, dtype=torch.float64)
        for _ in range(12):
            chosen = torch.rand(len(w), 5, generator=generator).argsort(1)[:, :2]
            w = w - factor * limit * torch.einsum("kij,kj->ki", hessians[chosen].mean(1), w)
        ends.append(float(w.square().sum(1).mean()) / 2)
        exact = torch.linalg.matrix_power(moments(hessians, 2, factor * limit), 12) @ torch.ones(4).double()
        assert ends[-1] == pytest.approx(float(exact[0] + exact[3]) / 2, rel=0.25)
    assert ends[0] < ends[1]


def test_whole_batches_are_gradient_descent():
    network, x, y = least_squares(3, 6)
    found = linear_stability(network, LOSS, [(x, y)], 6)
    assert found.limit == pytest.approx(found.sharpness_limit, rel=1e-12)
    assert found.sharpness_limit == pytest.approx(
        2 / float(torch.linalg.eigvalsh(x.T @ x / 6)[-1]), rel=1e-12
    )


def test_the_hessians_of_a_network_are_those_of_each_example():
    torch.manual_seed(0)
    network = MLP([3, 4, 2], activation="tanh").double()
    x, y = torch.randn(5, 3, dtype=torch.float64), torch.randn(5, 2, dtype=torch.float64)
    found = example_hessians(network, LOSS, [(x[:2], y[:2]), (x[2:], y[2:])]).hessians
    parameters = dict(network.named_parameters())
    flat = torch.cat([p.detach().flatten() for p in parameters.values()])

    def cost(vector: Tensor, i: int) -> Tensor:
        parts = vector.split([p.numel() for p in parameters.values()])
        values = {n: v.view_as(p) for (n, p), v in zip(parameters.items(), parts, strict=True)}
        return LOSS(torch.func.functional_call(network, values, (x[i : i + 1],)), y[i : i + 1])

    for i in range(5):
        exact = torch.autograd.functional.hessian(lambda vector, i=i: cost(vector, i), flat)
        torch.testing.assert_close(found[i], exact, rtol=1e-10, atol=1e-12)


def test_where_it_says_nothing_it_is_refused():
    network, x, y = least_squares(2, 5)
    with pytest.raises(UserError, match=r"is no minimum that fits every example; allowed: at most 0\.01"):
        linear_stability(network, LOSS, [(x, y + torch.randn(5))], 2)
    with pytest.raises(UserError, match="batch_size: 6 is not possible; allowed: 1 to 5"):
        linear_stability(network, LOSS, [(x, y)], 6)
    with pytest.raises(UserError, match="61 parameters are too many here; allowed: at most 60"):
        linear_stability(nn.Linear(60, 1), LOSS, [(torch.zeros(2, 60), torch.zeros(2))], 1)
    with pytest.raises(UserError, match="this is no minimum; allowed: none below 0"):
        stable_rate(torch.diag(torch.tensor([1.0, -0.5], dtype=torch.float64)).unsqueeze(0), 1)


def test_an_optimizer_of_which_the_limit_is_not_known_is_refused():
    """Before the run: with momentum SGD has another limit, and Adam none of this kind."""
    network = nn.Linear(2, 1)
    groups = [{"params": [p]} for p in network.parameters()]
    LinearStability().check_optimizer(torch.optim.SGD(network.parameters(), 0.1, weight_decay=0.1))
    for optimizer, what in (
        (torch.optim.Adam(network.parameters()), "Adam"),
        (torch.optim.SGD(network.parameters(), 0.1, momentum=0.9), "SGD with momentum"),
        (torch.optim.SGD(network.parameters(), 0.1, maximize=True), "SGD with maximize"),
        (torch.optim.SGD(groups, 0.1), "SGD with 2 groups of parameters"),
    ):
        with pytest.raises(UserError, match=f"LinearStability: not known of {what}; allowed: .*SGD without"):
            LinearStability().check_optimizer(optimizer)
