"""What is logged about training: a row of a run, and the rows of an ensemble with their mean and spread."""

import math
import time
from collections.abc import Mapping, Sequence

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import Logger

from sgdlit.runs.metrics_file import MetricsFile

Row = dict[str, float]


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
    row["modified_loss"] = cost + reg_strength / 4 * squared_norm
    row |= {"C_reg": squared_norm / 4, "gradient_norm": gradient_norm, "lr": lr, "reg_strength": reg_strength}
    return {f"train/{name}": value for name, value in row.items()}


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


def log_members(
    loggers: Sequence[Logger], step: int, rows: Mapping[int, Row], curves: bool, common: Row | None = None
) -> Row:
    """Write the rows of some members of an ensemble to every logger; returns their mean.

    ``metrics.csv`` has a row for each member. The other loggers have, for each number, its mean over the
    members that have it and, as ``..._spread``, the standard deviation.

    Args:
        loggers: of the run.
        step: updates made.
        rows: by the member's number.
        curves: whether the other loggers get each member's curve too, as ``.../member_k``.
        common: numbers of the run as a whole.
    """
    if not rows:
        return {}
    mean, shown = {}, dict(common or {})
    for name in dict.fromkeys(name for row in rows.values() for name in row):
        values = torch.tensor([row[name] for row in rows.values() if name in row], dtype=torch.float64)
        mean[name] = float(values.mean())
        shown[name] = mean[name]
        shown[f"{name}_spread"] = float(values.std()) if len(values) > 1 else 0.0
        if curves:
            shown |= {f"{name}/member_{k}": row[name] for k, row in rows.items() if name in row}
    for logger in loggers:
        if isinstance(logger, MetricsFile):
            for k, row in rows.items():
                logger.log_metrics({"member": k, **row, **(common or {})}, step=step)
        else:
            logger.log_metrics({n: v for n, v in shown.items() if not math.isnan(v)}, step=step)
    return mean


def over_ranks(rows: Mapping[int, Row], members: int, trainer: Trainer) -> dict[int, Row]:
    """The rows of all members, on every rank, from those that each rank has of its own."""
    if trainer.world_size == 1:
        return dict(rows)
    gathered: list[dict[int, Row] | None] = [None] * trainer.world_size
    torch.distributed.all_gather_object(gathered, dict(rows))
    everyone = {k: row for part in gathered for k, row in part.items()}
    return {k: everyone[k] for k in range(members) if k in everyone}
