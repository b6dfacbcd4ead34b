"""Ensembles of networks through ``fit``, against the same runs one after another in plain PyTorch loops."""

import time
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.common import DEVICE, Row, medians, relative_to_first, seconds_in_fit, seconds_of, synchronize
from benchmarks.limits import limit_of_step
from benchmarks.networks import RandomImages
from sgdlit.data.keyed_data import KeyedData
from sgdlit.data.members import MembersData
from sgdlit.data.teachers import MLPTeacher
from sgdlit.models import MLP, DeepLinear, WideResNet
from sgdlit.training.module import Training

LR = 2.0**-10
Cost = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def in_turn(network: Callable[[], nn.Module], data: KeyedData, cost: Cost, members: int, steps: int) -> float:
    """Seconds for a step of each of some runs, one after another, each with its own batch."""
    data.setup()
    batches, size = data.batches(DEVICE), data.batch_size
    model = network().to(DEVICE)
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)

    def step(k: int) -> None:
        inputs, targets = batches.batch(k, slice(0, size))
        optimizer.zero_grad()
        cost(model(inputs), targets).backward()
        optimizer.step()

    for k in range(5):
        step(k)
    synchronize()
    start = time.perf_counter()
    for k in range(5, 5 + steps):
        step(k)
    synchronize()
    return members * (time.perf_counter() - start) / steps


def together(
    network: Callable[[], nn.Module], data: list[KeyedData], loss: str, steps: int, engine: str = "auto"
) -> float:
    """Seconds for a step of an ensemble in fit, logging every 200 steps."""
    runs = [
        Training(
            network(),
            loss=loss,
            optimizer=lambda parameters: torch.optim.SGD(parameters, lr=LR),
            engine=engine,
        )
        for _ in data
    ]
    ensemble = Training.joined(runs, [{"seed_everything": seed} for seed in range(len(data))])
    return seconds_in_fit(ensemble, MembersData(data), steps, 200)


def products_alone(widths: list[int], members: int, steps: int = 40) -> float:
    """Seconds for the batched products of a step at B = 32 and nothing else: forward, backward but for the
    inputs, and each weight's gradient, added to it."""
    shapes = list(pairwise(widths))
    weights = [torch.rand(members, n, m, device=DEVICE) / m for m, n in shapes]
    inputs = [torch.rand(members, 32, m, device=DEVICE) for m, _ in shapes]
    errors = [torch.rand(members, 32, n, device=DEVICE) for _, n in shapes]

    def step() -> None:
        for x, weight in zip(inputs, weights, strict=True):
            torch.bmm(x, weight.mT)
        for error, weight in list(zip(errors, weights, strict=True))[1:]:
            torch.bmm(error, weight)
        for x, error, weight in zip(inputs, errors, weights, strict=True):
            weight.baddbmm_(error.mT, x, alpha=-1e-9)

    return seconds_of(lambda: [step() for _ in range(steps)]) / steps


def small_networks(rounds: int, compiled: bool) -> list[Row]:
    """Deep linear networks 5 × 64 at B = 32, by autograd: the closed form is not asked."""
    members, steps = 64, 211

    def data(seed: int) -> KeyedData:
        return MLPTeacher([64, 64], steps=steps, batch_size=32, seed=seed, test_size=1)

    def network() -> nn.Module:
        return DeepLinear([64] * 6)

    def cost(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return 0.5 * (outputs - targets).square().sum(1).mean()

    work = {
        "in turn": lambda: in_turn(network, data(0), cost, members, 1000),
        "ensemble": lambda: together(network, list(map(data, range(members))), "half_squared_error", steps),
        "ensemble, autograd recorded": lambda: together(
            network, list(map(data, range(members))), "half_squared_error", steps, "stacked"
        ),
    }
    if compiled:
        work["ensemble, compiled"] = lambda: together(
            network, list(map(data, range(members))), "half_squared_error", steps, "compiled"
        )
    limit = limit_of_step(network(), cost, torch.rand(32, 64), torch.rand(32, 64), members)
    return relative_to_first(medians(work, rounds), f"deep linear 5x64, B=32, {members} members", limit)


def mlp(rounds: int, compiled: bool) -> list[Row]:
    """MLPs 784–256–10 at B = 32 on images."""
    members, steps = 64, 61
    data, network = images((1, 28, 28), members), lambda: MLP([784, 256, 10])
    work = {
        "in turn": lambda: in_turn(network, data(1)[0], F.cross_entropy, members, 500),
        "ensemble": lambda: together(network, data(members), "cross_entropy", steps),
    }
    if compiled:
        work["ensemble, compiled"] = lambda: together(
            network, data(members), "cross_entropy", steps, "compiled"
        )
    limit = limit_of_step(network(), F.cross_entropy, *some_images(1, 28), members)
    return relative_to_first(medians(work, rounds), f"MLP 784-256-10, B=32, {members} members", limit)


def wide_resnets(rounds: int, compiled: bool) -> list[Row]:
    """WRN-10-1 at B = 32: as the program chooses, and with grouped convolutions."""
    members, steps = 28, 21
    data, network = images((3, 32, 32), members), lambda: WideResNet(10, 1)
    work = {
        "in turn": lambda: in_turn(network, data(1)[0], F.cross_entropy, members, 60),
        "ensemble": lambda: together(network, data(members), "cross_entropy", steps),
        "ensemble, grouped convolutions": lambda: together(
            network, data(members), "cross_entropy", steps, "stacked"
        ),
    }
    limit = limit_of_step(network(), F.cross_entropy, *some_images(3, 32), members)
    return relative_to_first(medians(work, min(rounds, 3)), f"WRN-10-1, B=32, {members} members", limit)


def some_images(channels: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch of 32, on the CPU."""
    return torch.rand(32, channels, size, size), torch.randint(0, 10, (32,))


def images(shape: tuple[int, int, int], members: int) -> Callable[[int], list[KeyedData]]:
    """Data modules over one set of images, each with an order of its own."""

    def make(count: int) -> list[KeyedData]:
        made = [RandomImages(shape, 32) for _ in range(count)]
        for seed, data in enumerate(made):
            data.order_seed = data.augmentation_seed = seed
        return made

    return make
