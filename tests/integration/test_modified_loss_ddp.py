"""Four ranks give the numbers of one process on the same global batch, for every scope of the penalty."""

import multiprocessing
from itertools import pairwise

import pytest
import torch
from torch import distributed as dist
from torch import multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel

from sgdlit.foundations.errors import UserError
from sgdlit.models import MLP
from sgdlit.objectives import LOSSES, ExactPenalty, FiniteDifferencePenalty, modified_loss

CROSS_ENTROPY = LOSSES["cross_entropy"]
STRENGTH = 0.5
WORLD, BATCH = 4, 16
OBJECTIVES = {
    "whole batch": lambda: ExactPenalty(),
    "whole batch by its size": lambda: ExactPenalty(16),
    "pair of ranks": lambda: ExactPenalty(8),
    "rank": lambda: ExactPenalty(4),
    "half of a rank": lambda: ExactPenalty(2),
    "finite difference": lambda: FiniteDifferencePenalty(),
    "finite difference, pair of ranks": lambda: FiniteDifferencePenalty(8),
}


def problem():
    torch.manual_seed(0)
    network = MLP([6, 8, 5, 3], activation="gelu").double()
    return network, torch.randn(BATCH, 6, dtype=torch.float64), torch.randint(3, (BATCH,))


class Step(torch.nn.Module):
    """What DDP wraps: a module whose forward pass evaluates an objective, as a Lightning module's does."""

    def __init__(self, network, objective):
        super().__init__()
        self.network, self.objective = network, objective

    def forward(self, x, y):
        return self.objective(self.network, CROSS_ENTROPY, x, y, STRENGTH)


def alone(step):
    """In one process nothing has to be wrapped."""
    return step


def one_step(objective, x, y, wrap):
    """Value, mean of ‖∇C_k‖² and gradient, as numbers."""
    network = problem()[0]
    step = wrap(Step(network, objective))  # named, because DDP's hooks live as long as DDP does
    found = step(x, y)
    found.loss.backward()
    gradient = torch.cat([p.grad.flatten() for p in network.parameters()])
    return torch.cat([found.loss.detach().view(1), found.squared_norm.view(1), gradient])


def rank_main(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=WORLD)
    _, x, y = problem()
    part = slice(rank * BATCH // WORLD, (rank + 1) * BATCH // WORLD)
    found = {}
    for name, make in OBJECTIVES.items():
        found[name] = one_step(make(), x[part], y[part], DistributedDataParallel)
        dist.all_reduce(found[name][:2])
        found[name][:2] /= WORLD
    theta = torch.full((2,), float(rank), dtype=torch.float64, requires_grad=True)
    found["one line"] = modified_loss(theta.square().sum(), [theta], 1.0).squared_norm
    found["one line, local"] = modified_loss(theta.square().sum(), [theta], 1.0, "local").squared_norm
    errors = []
    for objective in (ExactPenalty(12), ExactPenalty(3)):
        with pytest.raises(UserError) as error:
            objective(problem()[0], CROSS_ENTROPY, x[part], y[part], STRENGTH)
        errors.append(str(error.value))
    torch.save((found, errors), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    multiprocessing.set_forkserver_preload(["torch", "torch.distributed", "torch.nn.parallel", "pytest"])
    mp.start_processes(rank_main, args=(str(folder),), nprocs=WORLD, start_method="forkserver")
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(WORLD)]


@pytest.mark.parametrize("name", OBJECTIVES)
def test_ranks_together_give_the_numbers_of_one_process(ranks, name):
    _, x, y = problem()
    expected = one_step(OBJECTIVES[name](), x, y, alone)
    for found, _ in ranks:
        assert (found[name] - expected).abs().max() < 1e-12


def test_scopes_differ():
    """The control: what is compared above is not the same number throughout."""
    _, x, y = problem()
    steps = [one_step(OBJECTIVES[name](), x, y, alone) for name in list(OBJECTIVES)[1:5]]
    for a, b in pairwise(steps):
        assert (a - b).abs().max() > 1e-4


def test_the_one_line_form_averages_over_ranks_unless_told_otherwise(ranks):
    """C_r = ‖θ‖² at θ = (r, r): the gradient 2θ has mean (3, 3) over ranks 0 ... 3."""
    for rank, (found, _) in enumerate(ranks):
        assert found["one line"].item() == pytest.approx(18.0)
        assert found["one line, local"].item() == pytest.approx(8.0 * rank**2)


def test_scopes_that_do_not_fit_are_named_on_every_rank(ranks):
    for _, errors in ranks:
        assert errors[0] == (
            "penalty_batch_size: 12 does not fit a batch of 16 examples on 4 rank(s); "
            "allowed are 1, 2, 4, 8, 16"
        )
        assert errors[1].startswith("penalty_batch_size: 3 ")
