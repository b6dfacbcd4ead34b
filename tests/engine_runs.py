"""Runs without a Trainer: engines on real networks and data, and how their results are compared.

They compute on the CPU, or on the device that ``SGDLIT_TEST_DEVICE`` names: ``scripts/gpu_check.sh`` runs the
tests of the engines on a GPU.
"""

import os

import torch
from fake_trainer import attach
from lightning.pytorch.plugins.precision import DoublePrecision, Precision

from sgdlit.algorithms import EngineGroup, Machine, Member
from sgdlit.data.batches import Block
from sgdlit.objectives import ConstantStrength, ExactPenalty, Strength, loss_by_name

DEVICE = torch.device(os.environ.get("SGDLIT_TEST_DEVICE", "cpu"))


def machine(dtype=torch.float64):
    """Where engines compute in these tests."""
    precision = DoublePrecision() if dtype == torch.float64 else Precision()
    return Machine(DEVICE, precision)


def member(
    network, seed=0, dtype=torch.float64, optimizer=None, scheduler=None, loss="cross_entropy",
    reg_strength=0.0, objective=None, **run,
):  # fmt: skip
    """A run whose network is drawn from a seed."""
    torch.manual_seed(seed)
    loss = loss_by_name(loss) if isinstance(loss, str) else loss
    strength = reg_strength if isinstance(reg_strength, Strength) else ConstantStrength(reg_strength)
    return Member(
        network().to(DEVICE, dtype), loss, optimizer or sgd(0.01), scheduler,
        objective or ExactPenalty(), strength, **run,
    )  # fmt: skip


def sgd(lr, **settings):
    return lambda parameters: torch.optim.SGD(parameters, lr=lr, **settings)


def batches(data):
    """What each step of a data module sees."""
    attach(data).trainer.strategy.root_device = DEVICE
    data.setup()
    return data.batches(DEVICE)


def train(engine, members, data, cuts, dtype=torch.float64):
    """Take the blocks that the steps ``cuts`` end; costs and losses ``[steps, members]``, and the engines."""
    engines, costs, losses = EngineGroup(members, engine, machine(dtype)), [], []
    for start, end in zip([0, *cuts], cuts, strict=False):
        found = engines.run(Block(start, end - start, data))
        costs.append(found.cost)
        losses.append(found.loss)
    return torch.cat(costs), torch.cat(losses), engines


def parameters(member):
    """All parameters of a run as one vector."""
    return torch.cat([p.detach().flatten() for p in member.network.parameters()])
