"""How large C_reg is on the whole training set: what the explicit regularizer and a large rate keep small."""

import copy
import math
from itertools import islice
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from sgdlit.data.members import AsOneProcess
from sgdlit.foundations.errors import UserError
from sgdlit.foundations.side_by_side import SideBySide
from sgdlit.measures.c_reg import c_reg
from sgdlit.training.fit_loop import step_is_complete
from sgdlit.training.members import data_of, log_reports, members_of, reported


class RegularizerReport(Callback):
    """Logs ``train_set/C_reg``, ¼ mean ‖∇Ĉ‖² over minibatches of the training set, not augmented.

    Args:
        every_n_steps: steps between two rows; by default there is one, at the end.
        batch_size: examples in a minibatch; None for the step's batch size.
        batches: minibatches that are looked at, the first ones of the training set; None for all.

    Raises:
        UserError: an argument below 1; data without a finite training set.
    """

    def __init__(
        self, every_n_steps: int | None = None, batch_size: int | None = None, batches: int | None = None
    ) -> None:
        for name, value in {
            "every_n_steps": every_n_steps,
            "batch_size": batch_size,
            "batches": batches,
        }.items():
            if value is not None and value < 1:
                raise UserError(f"RegularizerReport.{name}: {value} is not possible; allowed: 1 or more")
        self.period, self.batch_size, self.batches = every_n_steps, batch_size, batches
        self._latest = -1

    def next_due(self, step: int) -> int | None:
        return None if self.period is None else (step // self.period + 1) * self.period

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        for data in data_of(trainer):
            if getattr(data, "shard_size", 0) is None or not hasattr(data, "evaluation_loader"):
                raise UserError(
                    f"RegularizerReport: {type(data).__name__} has no finite training set; allowed: image "
                    "shards, or a stream with data.shard_size"
                )

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.period and step_is_complete(trainer) and trainer.global_step % self.period == 0:
            self._report(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._latest != trainer.global_step:
            self._report(trainer, pl_module)

    def _report(self, trainer: Trainer, module: LightningModule) -> None:
        self._latest = trainer.global_step
        runs, members = members_of(module), reported(module)

        def one(k: int) -> float:
            data = copy.copy(data_of(trainer)[k])
            data.trainer = AsOneProcess(trainer)  # whole sets, whatever the number of ranks
            loader = data.evaluation_loader("train_set", self.batch_size or data.batch_size)
            batches = (trainer.precision_plugin.convert_input(batch) for batch in loader)
            return float(c_reg(runs[k], runs[k].loss, islice(batches, self.batches)))

        with torch.inference_mode(False):
            found = SideBySide(len(members), module.device).map(one, members)
        rows = {k: {"train_set/C_reg": value} for k, value in zip(members, found, strict=True)}
        log_reports(module, {k: row for k, row in rows.items() if math.isfinite(row["train_set/C_reg"])})
