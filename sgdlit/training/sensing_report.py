"""What is special about a run on matrix sensing: how close the network is to T, and with which spectrum."""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from sgdlit.console import say
from sgdlit.data.loaders import Block
from sgdlit.data.sensing import MatrixSensing
from sgdlit.errors import UserError
from sgdlit.measures.relative_error import relative_error
from sgdlit.measures.relative_squared_error import relative_squared_error, squared_sums
from sgdlit.measures.sensing_risk import sensing_risk
from sgdlit.measures.singular_values import singular_values
from sgdlit.models.sensing import BilinearForm
from sgdlit.training.fit_loop import step_is_complete


class SensingReport(Callback):
    """Logs, about the parameters after t updates and at step t, as ``sensing/...``:

    - ``samples``: examples seen, over all ranks;
    - of a linear network with prediction aᵀMb: ``relative_error`` ‖M − T‖_F/‖T‖_F, ``population_risk`` and,
      more rarely, ``singular_value_k`` of M beside ``target_singular_value_k`` of T, k = 1 … r;
    - of any other: ``relative_squared_error`` Σ(y − p)²/Σy² of a minibatch, measured before the update
      that it causes, so that it is an error on examples not yet seen; the mean of the last ``window``.

    Args:
        every_n_steps: steps between two rows.
        spectrum_every_n_steps: steps between two rows with singular values.
        window: steps over which the error of minibatches is averaged.

    Raises:
        UserError: an argument below 1; data or a network of another kind.
    """

    def __init__(
        self, every_n_steps: int = 100, spectrum_every_n_steps: int = 1000, window: int = 20
    ) -> None:
        given = {"every_n_steps": every_n_steps, "spectrum_every_n_steps": spectrum_every_n_steps}
        for name, value in {**given, "window": window}.items():
            if value < 1:
                raise UserError(f"SensingReport.{name}: {value} is not possible; allowed: 1 or more")
        self.every_n_steps, self.spectrum_every_n_steps = every_n_steps, spectrum_every_n_steps
        self.window = window
        self.errors = torch.zeros(window)  # of the last steps' minibatches: a ring, by step
        self._latest: tuple[int, dict[str, float]] = (-1, {})  # step and row

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.data, self.network = trainer.datamodule, getattr(pl_module, "network", None)
        if not isinstance(self.data, MatrixSensing) or not isinstance(self.network, BilinearForm):
            raise UserError(
                f"SensingReport: cannot look at {type(self.network).__name__} on {type(self.data).__name__}; "
                "allowed: model.network: sgdlit.models.sensing.BilinearForm, data: "
                "sgdlit.data.sensing.MatrixSensing"
            )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.linear = self.network.matrix is not None
        self.target = self.data.target.to(pl_module.device)
        self.errors = self.errors.to(pl_module.device)
        self._sums = torch.zeros(2, device=pl_module.device)
        if trainer.global_step == 0 and self.linear:
            self._report(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not self.linear:
            self._note_errors(trainer, outputs["cost"], batch)
        if not step_is_complete(trainer):
            return
        if trainer.global_step % self.every_n_steps == 0:
            self._report(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._latest[0] != trainer.global_step:
            self._report(trainer)
        row = self._latest[1]
        shown = "relative_error" if self.linear else "relative_squared_error"
        if trainer.is_global_zero and f"sensing/{shown}" in row:
            error, samples = row[f"sensing/{shown}"], row["sensing/samples"]
            say(f"{shown.replace('_', ' ')} {error:.4g} after {samples} samples")

    def state_dict(self) -> dict[str, Any]:
        return {"errors": self.errors.cpu()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if len(state_dict["errors"]) != self.window:
            raise UserError(
                f"SensingReport.window: {self.window} differs from the checkpoint's; allowed: "
                f"{len(state_dict['errors'])}"
            )
        self.errors = state_dict["errors"]

    def _note_errors(self, trainer: Trainer, costs: Tensor, batch: Any) -> None:
        """Keep the errors of the latest minibatches, from the losses ½(y − p)² that they had on average."""
        if isinstance(batch, Block):
            for k in range(max(0, len(batch) - self.window), len(batch)):
                targets = batch.batch(k, slice(0, 1))[1]
                self.errors[(batch.start + k) % self.window] = relative_squared_error(costs[k, 0], targets)
            return
        self._sums += squared_sums(costs, batch[1])
        if step_is_complete(trainer):
            missed, squares = trainer.strategy.reduce(self._sums, reduce_op="sum")
            self.errors[(trainer.global_step - 1) % self.window] = missed / squares
            self._sums.zero_()

    def _report(self, trainer: Trainer) -> None:
        if not trainer.is_global_zero:
            return
        step = trainer.global_step
        row = {"samples": step * self.data.batch_size}
        if self.linear:
            row |= self._of_the_matrix(step)
        elif step > 0:
            row["relative_squared_error"] = float(self.errors[:step].mean())
        row = {f"sensing/{name}": value for name, value in row.items()}
        self._latest = (step, row)
        for logger in trainer.loggers:
            logger.log_metrics(row, step=step)

    @torch.no_grad()
    def _of_the_matrix(self, step: int) -> dict[str, float]:
        matrix = self.network.matrix.double()
        row = {
            "relative_error": float(relative_error(matrix, self.target)),
            "population_risk": float(sensing_risk(matrix, self.target, self.data.label_noise)),
        }
        if step % self.spectrum_every_n_steps == 0 and bool(matrix.isfinite().all()):
            for name, m in (("singular_value", matrix), ("target_singular_value", self.target)):
                values = singular_values(m, self.data.r).tolist()
                row |= {f"{name}_{k}": value for k, value in enumerate(values, start=1)}
        return row
