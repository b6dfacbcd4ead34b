"""Runs without a Trainer: engines on real networks and data, and how their results are compared."""

from types import SimpleNamespace

import torch
from fake_trainer import attach
from lightning.pytorch.plugins.precision import DoublePrecision, Precision
from sgdlit.training.single_run import SingleRun

from sgdlit.algorithms.engines import Crew, Member
from sgdlit.data.loaders import Block


def trainer(dtype=torch.float64, steps=10**6):
    """What engines ask of a trainer."""
    return SimpleNamespace(
        precision_plugin=DoublePrecision() if dtype == torch.float64 else Precision(),
        estimated_stepping_batches=steps,
        strategy=SimpleNamespace(root_device=torch.device("cpu")),
    )


def member(network, seed=0, dtype=torch.float64, optimizer=None, scheduler=None, **run):
    """A run whose network is drawn from a seed, with its optimizer."""
    torch.manual_seed(seed)
    run = SingleRun(network().to(dtype), optimizer=optimizer or sgd(0.01), scheduler=scheduler, **run)
    built, schedule = run._optimizers()
    return Member(run, built, schedule)


def sgd(lr, **settings):
    return lambda parameters: torch.optim.SGD(parameters, lr=lr, **settings)


def batches(data):
    """What each step of a data module sees, on the CPU."""
    attach(data)
    data.setup()
    return data.batches(torch.device("cpu"))


def train(engine, members, data, cuts, dtype=torch.float64):
    """Take the blocks that the steps ``cuts`` end; costs and losses ``[steps, members]``, and the crew."""
    crew, costs, losses = None, [], []
    for start, end in zip([0, *cuts], cuts, strict=False):
        block = Block(start, end - start, data)
        crew = crew or Crew(members, engine, trainer(dtype, cuts[-1]), block)
        found = crew.run(block)
        costs.append(found.cost)
        losses.append(found.loss)
    return torch.cat(costs), torch.cat(losses), crew


def parameters(member):
    """All parameters of a run as one vector."""
    return torch.cat([p.detach().flatten() for p in member.run.network.parameters()])
