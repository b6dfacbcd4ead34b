"""What is logged about runs: a row of each, and of several their mean and spread."""

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import Logger
from torch import Tensor

from sgdlit.objectives.penalty import c_reg_of, modified_value
from sgdlit.runs.metrics_file import MetricsFile

Row = dict[str, float]
_BY_MEMBER = ("optimizer_states", "lr_schedulers", "sgdlit_transforms")  # lists of a checkpoint
T = TypeVar("T")


def training_row(
    cost: float,
    squared_norm: float,
    gradient_norm: float,
    accuracy: float | None,
    lr: float,
    reg_strength: float,
) -> Row:
    """The row ``train/...`` of a step, about its minibatch and the parameters before its update."""
    row = {"loss": cost} | ({} if accuracy is None else {"accuracy": accuracy})
    row["modified_loss"] = modified_value(cost, squared_norm, reg_strength)
    row["C_reg"] = c_reg_of(squared_norm)
    row |= {"gradient_norm": gradient_norm, "lr": lr, "reg_strength": reg_strength}
    return {f"train/{name}": value for name, value in row.items()}


class StepMeans:
    """What the micro-batches of one step through Lightning show of it, over all ranks."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}

    def add(self, cost: Tensor, squared_norm: Tensor | None, correct: Tensor | None) -> None:
        """What one micro-batch of this rank shows; None for what it does not."""
        values = {"loss": cost}
        if squared_norm is not None:
            values["squared_norm"] = squared_norm
        if correct is not None:
            values["accuracy"] = correct.float().mean()
        self._sums = {name: self._sums.get(name, 0) + value for name, value in values.items()}

    def of_step(self, trainer: Trainer) -> dict[str, float]:
        """Means over the micro-batches of all ranks; the next step begins with none."""
        names, sums = list(self._sums), torch.stack([value.double() for value in self._sums.values()])
        self._sums = {}
        means = trainer.strategy.reduce(sums, reduce_op="mean") / trainer.accumulate_grad_batches
        return dict(zip(names, means.tolist(), strict=True))


class Stopwatch:
    """Steps per second of training, without the time that evaluations take."""

    def __init__(self, step: int) -> None:
        self.step, self.then, self.paused = step, time.monotonic(), 0.0

    def pause(self) -> None:
        self.paused = time.monotonic()

    def go_on(self) -> None:
        self.then += time.monotonic() - self.paused

    def row(self, step: int) -> Row:
        """Since the last row; empty at the first."""
        now, taken = time.monotonic(), step - self.step
        row = {"train/steps_per_second": taken / (now - self.then)} if taken else {}
        self.step, self.then = step, now
        return row


def write(
    loggers: Sequence[Logger],
    step: int,
    found: Mapping[int, Row],
    several: bool,
    curves: bool = False,
    common: Row | None = None,
) -> Row:
    """Write the rows of some members to every logger; returns what a logger of one run has, or their mean.

    Of several members ``metrics.csv`` has a row for each. The other loggers have, for each number, its mean
    over the members for which it is finite and, as ``..._spread``, the standard deviation.

    Args:
        loggers: of the run.
        step: updates made.
        found: rows by the member's number.
        several: whether runs train together.
        curves: whether the other loggers get each member's curve too, as ``.../member_k``.
        common: numbers of the run as a whole.
    """
    if not found:
        return {}
    common = common or {}
    if not several:
        row = found[0] | common
        for logger in loggers:
            logger.log_metrics(row, step=step)
        return row
    mean, shown = _mean_and_spread(found, curves)
    for logger in loggers:
        if isinstance(logger, MetricsFile):
            for k, row in found.items():
                logger.log_metrics({"member": k, **row, **common}, step=step)
        else:
            finite = {name: value for name, value in (common | shown).items() if not math.isnan(value)}
            logger.log_metrics(finite, step=step)
    return mean


def _mean_and_spread(found: Mapping[int, Row], curves: bool) -> tuple[Row, Row]:
    """The mean of every number, and what loggers show of it."""
    mean, shown = {}, {}
    for name in dict.fromkeys(name for row in found.values() for name in row):
        values = torch.tensor([row[name] for row in found.values() if name in row], dtype=torch.float64)
        mean[name] = float(values.mean())
        finite = values[values.isfinite()]
        shown[name] = float(finite.mean())
        shown[f"{name}_spread"] = float(finite.std()) if len(finite) > 1 else 0.0
        if curves:
            shown |= {f"{name}/member_{k}": row[name] for k, row in found.items() if name in row}
    return mean, shown


# Members over ranks


def over_ranks(found: Mapping[int, T], trainer: Trainer) -> dict[int, T]:
    """What there is of all members, such as rows, on every rank, from what each rank has of its own."""
    if trainer.world_size == 1:
        return dict(found)
    gathered: list[dict[int, T]] = [{}] * trainer.world_size
    torch.distributed.all_gather_object(gathered, dict(found))
    everyone = {k: row for part in gathered for k, row in part.items()}
    return dict(sorted(everyone.items()))


def collect(checkpoint: dict[str, Any], owned: slice, ranks: int) -> None:
    """Put what other ranks know of their members into the checkpoint of the first.

    Args:
        checkpoint: as Lightning made it on this rank; or a snapshot, which has no states of transforms.
        owned: the members of this rank.
        ranks: how many there are.
    """
    prefixes = tuple(f"networks.{k}." for k in range(owned.start, owned.stop))
    by_member = [name for name in _BY_MEMBER if name in checkpoint]
    own = {name: checkpoint[name][owned] for name in by_member} | {
        "state_dict": {n: v.cpu() for n, v in checkpoint["state_dict"].items() if n.startswith(prefixes)}
    }
    parts: list[Any] = [None] * ranks
    torch.distributed.all_gather_object(parts, own)
    for part in parts:
        checkpoint["state_dict"] |= part["state_dict"]
    for name in by_member:
        checkpoint[name] = [state for part in parts for state in part[name]]
