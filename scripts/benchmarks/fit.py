"""``fit`` against a bare loop on the same batches, the data path, and the start of the program."""

import subprocess
import sys
import time

import torch
from torch.nn import functional as F

from benchmarks.common import (
    WARM_UP,
    Row,
    median_of,
    medians,
    relative_to_first,
    seconds_in_fit,
    synchronize,
)
from benchmarks.limits import limit_of_step
from benchmarks.networks import (
    CASES,
    LOG_EVERY,
    LR,
    STRENGTH,
    Case,
    RandomImages,
    batches,
    build,
    objective_step,
    plain_step,
)
from sgdlit.objectives import ExactPenalty
from sgdlit.training.module import Training


def start_up(rounds: int, compiled: bool) -> list[Row]:
    commands = {
        "python -c 'import lightning.pytorch'": ["-c", "import lightning.pytorch"],
        "sgdlit --help": ["-m", "sgdlit", "--help"],
        "sgdlit configs": ["-m", "sgdlit", "configs"],
        "sgdlit measures": ["-m", "sgdlit", "measures"],
        "sgdlit reproduce": ["-m", "sgdlit", "reproduce"],
        "sgdlit figure --help": ["-m", "sgdlit", "figure", "--help"],
        "sgdlit fit --help": ["-m", "sgdlit", "fit", "--help"],
    }
    work = {
        name: lambda c=command: subprocess.run([sys.executable, *c], capture_output=True, check=True)
        for name, command in commands.items()
    }
    return relative_to_first(median_of(work, rounds, 1), "start-up")


def data_path(rounds: int, compiled: bool) -> list[Row]:
    rows: list[Row] = []
    for case in CASES:
        batch, (network, optimizer) = batches(case), build(case)
        ready, steps = batch(0), iter(range(10**9))
        work = {
            "plain step on a ready batch": lambda n=network, o=optimizer, b=ready: plain_step(n, o, b),
            "gather, augment, standardise a batch": lambda b=batch, s=steps: b(next(s)),
        }
        rows += relative_to_first(median_of(work, rounds, 20), f"data, {case.name}")
    return rows


def through_fit(rounds: int, compiled: bool) -> list[Row]:
    rows: list[Row] = []
    for case in CASES:
        for strength, name in ((0.0, "plain"), (STRENGTH, "exact penalty")):
            work = {
                f"bare loop, {name}": lambda c=case, s=strength: bare_step(c, s),
                f"fit, {name}": lambda c=case, s=strength: fit_step(c, s),
                f"fit, {name}, one step per call": lambda c=case, s=strength: fit_step(c, s, 1),
            }
            limit = limit_of_step(case.make(), F.cross_entropy, *example(case), penalty=bool(strength))
            rows += relative_to_first(medians(work, rounds), f"fit, {case.name}", limit)
    return rows


def example(case: Case) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch, on the CPU."""
    return torch.rand(case.batch_size, *case.image), torch.randint(0, 10, (case.batch_size,))


def bare_step(case: Case, strength: float) -> float:
    """Seconds per step of the same in a plain loop over the same batches, reading the loss as often."""
    (network, optimizer), batch, objective = build(case), batches(case), ExactPenalty()
    start = 0.0
    for step in range(case.fit_steps):
        if step == WARM_UP:
            synchronize()
            start = time.perf_counter()
        if strength:
            loss = objective_step(objective, network, optimizer, batch(step))
        else:
            loss = plain_step(network, optimizer, batch(step))
        if step % LOG_EVERY == 0:
            loss.item()
    synchronize()
    return (time.perf_counter() - start) / (case.fit_steps - WARM_UP)


def fit_step(case: Case, strength: float, steps_per_call: int | str = "auto") -> float:
    model = Training(
        case.make(),
        reg_strength=strength,
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=LR),
        channels_last=case.channels_last,
        steps_per_call=steps_per_call,
    )
    return seconds_in_fit(model, RandomImages(case.image, case.batch_size), case.fit_steps, LOG_EVERY)
