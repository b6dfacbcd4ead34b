"""Every objective over networks × losses: value, gradient, norms, and what it leaves of a network."""

import copy

import pytest
import torch
from cases import OBJECTIVES, PROBLEMS, Problem
from torch import Tensor, nn

from sgdlit.foundations.errors import UserError
from sgdlit.objectives import ExactPenalty, Objective

LAMBDA = 0.7
SIZES = [None, 2]


def written_out(problem: Problem, network: nn.Module, size: int | None) -> tuple[Tensor, Tensor, Tensor]:
    """mean_k (C_k + λ/4 ‖∇C_k‖²) over batches of ``size``, as it stands there; mean_k C_k, mean_k ‖∇C_k‖²."""
    trainable = [p for p in network.parameters() if p.requires_grad]
    costs, norms = [], []
    size = size or len(problem.inputs)
    for x, y in zip(problem.inputs.split(size), problem.targets.split(size), strict=True):
        cost = problem.loss.per_example(network(x), y).mean()
        g = torch.autograd.grad(cost, trainable, create_graph=True, materialize_grads=True)
        costs.append(cost)
        norms.append(sum((t**2).sum() for t in g))
    cost, norm = torch.stack(costs).mean(), torch.stack(norms).mean()
    return cost + LAMBDA / 4 * norm, cost, norm


def gradient(loss: Tensor, network: nn.Module) -> Tensor:
    trainable = [p for p in network.parameters() if p.requires_grad]
    found = torch.autograd.grad(loss, trainable, materialize_grads=True)
    return torch.cat([g.flatten() for g in found])


def left(network: nn.Module) -> dict[str, Tensor]:
    return copy.deepcopy(network.state_dict())


def assert_untouched(network: nn.Module, before: dict[str, Tensor]) -> None:
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(p.grad is None for p in network.parameters())


def has_batchnorm(network: nn.Module) -> bool:
    return any(isinstance(module, nn.BatchNorm1d) for module in network.modules())


@pytest.mark.parametrize("problem", PROBLEMS.values(), ids=PROBLEMS)
@pytest.mark.parametrize("make", OBJECTIVES.values(), ids=OBJECTIVES)
@pytest.mark.parametrize("size", SIZES)
def test_it_is_the_modified_loss_written_out(make, problem, size):
    objective, network = make(penalty_batch_size=size), problem.network()
    value, cost, norm = written_out(problem, copy.deepcopy(network), size)
    found = objective(network, problem.loss, problem.inputs, problem.targets, LAMBDA)
    close = {"rtol": 1e-12, "atol": 1e-14}
    torch.testing.assert_close(found.loss, value, **close)
    torch.testing.assert_close(found.cost, cost, **close)
    torch.testing.assert_close(found.squared_norm, norm, **close)
    assert found.loss.requires_grad
    assert not any(part.requires_grad for part in found[1:])
    if size is None or not has_batchnorm(network):
        outputs = copy.deepcopy(network)(problem.inputs)
        torch.testing.assert_close(found.outputs, outputs, rtol=0, atol=1e-12)
    if problem.case.smooth or isinstance(objective, ExactPenalty):
        other = copy.deepcopy(network)
        expected = gradient(written_out(problem, other, size)[0], other)
        error = (gradient(found.loss, network) - expected).norm() / expected.norm()
        assert error < (1e-10 if isinstance(objective, ExactPenalty) else 1e-4)


@pytest.mark.parametrize("problem", PROBLEMS.values(), ids=PROBLEMS)
@pytest.mark.parametrize("make", OBJECTIVES.values(), ids=OBJECTIVES)
@pytest.mark.parametrize("size", SIZES)
def test_without_strength_it_is_the_plain_loss_bit_for_bit(make, problem, size):
    network, other = problem.network(), problem.network()
    cost = problem.loss(other(problem.inputs), problem.targets)
    found = make(penalty_batch_size=size)(network, problem.loss, problem.inputs, problem.targets, 0.0)
    assert found.squared_norm is None
    assert torch.equal(found.loss, cost)
    assert torch.equal(found.cost, cost)
    assert torch.equal(gradient(found.loss, network), gradient(cost, other))


@pytest.mark.parametrize("problem", PROBLEMS.values(), ids=PROBLEMS)
@pytest.mark.parametrize("make", OBJECTIVES.values(), ids=OBJECTIVES)
@pytest.mark.parametrize("size", SIZES)
def test_its_measurement_is_the_norm_and_changes_nothing(make, problem, size):
    network = problem.network()
    before, norm = left(network), written_out(problem, problem.network(), size)[2]
    found = make(penalty_batch_size=size).measure(network, problem.loss, problem.inputs, problem.targets)
    torch.testing.assert_close(found, norm.detach(), rtol=1e-12, atol=1e-14)
    assert not found.requires_grad
    assert_untouched(network, before)


@pytest.mark.parametrize("make", OBJECTIVES.values(), ids=OBJECTIVES)
@pytest.mark.parametrize("strength", [0.0, LAMBDA])
@pytest.mark.parametrize("size", SIZES)
def test_batchnorm_moves_once_by_the_batch_that_comes_first(make, strength, size):
    problem = PROBLEMS["batchnorm, cross_entropy of classes"]
    network, seen = problem.network(), problem.network()
    seen(problem.inputs if size is None or strength == 0 else problem.inputs[:size])
    found = make(penalty_batch_size=size)(network, problem.loss, problem.inputs, problem.targets, strength)
    found.loss.backward()
    for name, value in seen.state_dict().items():
        torch.testing.assert_close(network.state_dict()[name], value, rtol=0, atol=1e-12)
    assert all(m.track_running_stats for m in network.modules() if isinstance(m, nn.BatchNorm1d))


@pytest.mark.parametrize("make", OBJECTIVES.values(), ids=OBJECTIVES)
def test_backward_adds_to_what_is_there_and_leaves_the_parameters(make):
    """Two halves of a batch, accumulated, are the mean of their gradients."""
    problem, objective = PROBLEMS["MLP, cross_entropy of classes"], make()
    network, other = problem.network(), problem.network()
    before = left(network)
    expected = 0
    for part in (slice(0, 3), slice(3, 6)):
        x, y = problem.inputs[part], problem.targets[part]
        (objective(network, problem.loss, x, y, LAMBDA).loss / 2).backward()
        expected = expected + gradient(objective(other, problem.loss, x, y, LAMBDA).loss, other) / 2
    found = torch.cat([p.grad.flatten() for p in network.parameters()])
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("make", OBJECTIVES.values(), ids=OBJECTIVES)
def test_what_it_cannot_do_is_named(make):
    problem = PROBLEMS["MLP, cross_entropy of classes"]
    network, given = problem.network(), (problem.loss, problem.inputs, problem.targets)
    for strength in (-0.1, float("nan"), float("inf")):
        with pytest.raises(UserError, match="reg_strength"):
            make()(network, *given, strength)
    for size in (4, 5, 12):
        with pytest.raises(UserError, match=f"penalty_batch_size: {size} .*allowed are 1, 2, 3, 6$"):
            make(penalty_batch_size=size)(network, *given, LAMBDA)
    with pytest.raises(UserError, match="penalty_batch_size: 0"):
        make(penalty_batch_size=0)
    found = make()(network, *given, LAMBDA)
    with pytest.raises(UserError, match="once"):
        torch.autograd.grad(found.loss, list(network.parameters()), create_graph=True)


def test_every_objective_is_found():
    assert {name.split()[0] for name in OBJECTIVES} >= {"ExactPenalty", "FiniteDifferencePenalty"}
    assert all(issubclass(type(make()), Objective) for make in OBJECTIVES.values())
