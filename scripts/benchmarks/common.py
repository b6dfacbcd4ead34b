"""What all benchmarks share: interleaved timing, ratios, and a fit under the Trainer of the command line."""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer

from sgdlit.foundations.progress import track
from sgdlit.runs.charts import Charts
from sgdlit.runs.metrics_file import MetricsFile
from sgdlit.training.checkpoints import Checkpoints
from sgdlit.training.divergence import DivergenceGuard
from sgdlit.training.progress import StepProgress

DEVICE = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
WARM_UP = 10  # steps at the start that are not timed


class Timing(float):
    """The median of what some interleaved rounds measured, in seconds; they are in ``rounds``."""

    rounds: tuple[float, ...]

    def __new__(cls, rounds: Sequence[float]) -> "Timing":
        made = super().__new__(cls, statistics.median(rounds))
        made.rounds = tuple(rounds)
        return made

    def over(self, base: float) -> float:
        """The ratio to another: the median over the rounds, where both were measured in the same ones."""
        if isinstance(base, Timing) and len(base.rounds) == len(self.rounds):
            return statistics.median(a / b for a, b in zip(self.rounds, base.rounds, strict=True))
        return self / base


class Row(NamedTuple):
    """One timing.

    Args:
        group: what is compared with each other.
        work: what was timed.
        seconds: of one call, or of one step.
        ratio: to the first of its group, or a count.
        target: what the ratio is to be at most.
        limit: the seconds that the machine needs at least, see ``limits.py``.
    """

    group: str
    work: str
    seconds: float
    ratio: float
    target: float | None = None
    limit: float | None = None

    @property
    def verdict(self) -> str:
        """The target, and whether it holds; nothing without one."""
        if self.target is None:
            return ""
        return f"{self.target:>8.3g}  {'holds' if self.ratio <= self.target else 'does not hold'}"


class StandIn:
    """What a datamodule needs of a trainer, for batches outside of fit."""

    global_step, accumulate_grad_batches, world_size, global_rank = 0, 1, 1, 0

    def __init__(self) -> None:
        self.strategy = argparse.Namespace(root_device=DEVICE)


def synchronize() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def seconds_of(call: Callable[[], object]) -> float:
    synchronize()
    start = time.perf_counter()
    call()
    synchronize()
    return time.perf_counter() - start


def median_of(work: dict[str, Callable[[], object]], rounds: int, calls: int) -> dict[str, Timing]:
    """Seconds per call of each piece of work: over ``rounds`` interleaved rounds, after a warm-up."""
    for call in work.values():
        call()

    def repeated(call: Callable[[], object]) -> float:
        return seconds_of(lambda: [call() for _ in range(calls)]) / calls

    return medians({name: lambda c=call: repeated(c) for name, call in work.items()}, rounds)


def medians(work: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, Timing]:
    """What each piece of work measured of itself, over ``rounds`` interleaved rounds."""
    found: dict[str, list[float]] = {name: [] for name in work}
    for _ in track(range(rounds), "timing"):
        for name, call in work.items():
            found[name].append(call())
    return {name: Timing(measured) for name, measured in found.items()}


def relative_to_first(
    seconds: Mapping[str, Timing], group: str, limit: float | None = None, targets: Mapping[str, float] = {}
) -> list[Row]:
    """A row for each work.

    Args:
        seconds: of the works.
        group: their heading.
        limit: the least seconds of each, where the machine says one.
        targets: of some of the works.
    """
    base = next(iter(seconds.values()))
    return [
        Row(group, name, value, value.over(base), targets.get(name), limit) for name, value in seconds.items()
    ]


class Stopwatch(Callback):
    """Seconds per step of a fit, without the first steps and without the checkpoint at the end."""

    def __init__(self, last: int) -> None:
        self.last, self.start, self.seconds = last, 0.0, 0.0

    def next_due(self, step: int) -> int | None:
        return next((due for due in (WARM_UP, self.last) if due > step), None)

    def on_train_batch_start(self, trainer: Trainer, *_: object) -> None:
        if trainer.global_step == WARM_UP:
            synchronize()
            self.start = time.perf_counter()
        if trainer.global_step == self.last:
            synchronize()
            self.seconds = (time.perf_counter() - self.start) / (self.last - WARM_UP)


def seconds_in_fit(
    model: LightningModule,
    data: LightningDataModule,
    steps: int,
    log_every: int,
    callbacks: tuple[Callback, ...] = (),
    checkpoint_every: int = 1000,
) -> float:
    """Seconds per step under the Trainer that the command line makes."""
    watch, keeper = Stopwatch(steps - 1), Checkpoints(checkpoint_every)
    with tempfile.TemporaryDirectory() as folder:
        keeper.folder = Path(folder)
        trainer = Trainer(
            max_steps=steps,
            callbacks=[DivergenceGuard(), StepProgress(), *callbacks, watch, keeper],
            logger=[Charts(Path(folder), {}), MetricsFile(Path(folder))],
            log_every_n_steps=log_every,
            enable_model_summary=False,
            enable_checkpointing=False,
            limit_val_batches=0,
            accelerator="gpu" if DEVICE.type == "cuda" else "cpu",
            devices=1,
        )
        data.check(trainer)
        trainer.fit(model, datamodule=data)
    return watch.seconds
