"""The regularizer in its forms against a plain step."""

import torch
from torch import nn
from torch.func import functional_call, grad, jvp
from torch.nn import functional as F

from benchmarks.common import Row, median_of, relative_to_first
from benchmarks.networks import CASES, STRENGTH, batches, build, objective_step, plain_step
from sgdlit.objectives import (
    ExactPenalty,
    FiniteDifferencePenalty,
    Objective,
    convolution,
)


def penalty(rounds: int, compiled: bool) -> list[Row]:
    rows: list[Row] = []
    for case in CASES:
        (network, optimizer), batch = build(case), batches(case)(0)
        objectives: dict[str, Objective] = {"exact (the default)": ExactPenalty()}
        objectives["finite difference"] = FiniteDifferencePenalty()
        given = (network, optimizer, batch)
        work = {"plain step": lambda g=given: plain_step(*g)}
        work |= {name: lambda o=o, g=given: objective_step(o, *g) for name, o in objectives.items()}
        work["scalar double backward"] = lambda g=given: scalar_double_backward(*g)
        work["gradient of jvp"] = lambda g=given: gradient_of_jvp(*g)
        rows += relative_to_first(median_of(work, rounds, 8), f"penalty, {case.name}")
    return rows + without_our_convolution(rounds)


def without_our_convolution(rounds: int) -> list[Row]:
    """The exact penalty with PyTorch's own second derivative of convolutions."""
    case = CASES[0]
    (network, optimizer), batch = build(case), batches(case)(0)
    convolution.register()._destroy()
    work = {
        "plain step": lambda: plain_step(network, optimizer, batch),
        "exact, torch's derivative of conv": lambda: objective_step(
            ExactPenalty(), network, optimizer, batch
        ),
    }
    rows = relative_to_first(median_of(work, rounds, 8), f"penalty, {case.name}")[1:]
    convolution.register.cache_clear()
    convolution.register()
    return rows


def scalar_double_backward(network: nn.Module, optimizer: torch.optim.Optimizer, batch: tuple) -> None:
    """The penalty as most code writes it: build λ/4·‖g‖² and differentiate it."""
    optimizer.zero_grad()
    cost = F.cross_entropy(network(batch[0]), batch[1])
    gradient = torch.autograd.grad(cost, list(network.parameters()), create_graph=True)
    (cost + STRENGTH / 4 * sum(g.square().sum() for g in gradient)).backward()
    optimizer.step()


def gradient_of_jvp(network: nn.Module, optimizer: torch.optim.Optimizer, batch: tuple) -> None:
    """g by one gradient, then H g as the gradient of the directional derivative along g."""
    parameters = {name: p.detach() for name, p in network.named_parameters()}

    def cost(p):
        return F.cross_entropy(functional_call(network, p, (batch[0],)), batch[1])

    direction = grad(cost)(parameters)
    curved = grad(lambda p: jvp(cost, (p,), (direction,))[1])(parameters)
    for name, p in network.named_parameters():
        p.grad = direction[name] + STRENGTH / 2 * curved[name]
    optimizer.step()
