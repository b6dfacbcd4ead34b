"""What is special about a run on matrix sensing: how close the network is to T, and with which spectrum."""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from sgdlit.data.loaders import Block
from sgdlit.data.sensing import MatrixSensing
from sgdlit.foundations.console import say
from sgdlit.foundations.errors import UserError
from sgdlit.measures.relative_error import relative_error
from sgdlit.measures.relative_squared_error import relative_squared_error, squared_sums
from sgdlit.measures.sensing_risk import sensing_risk
from sgdlit.measures.singular_values import singular_values
from sgdlit.models.sensing import BilinearForm
from sgdlit.training.fit_loop import step_is_complete
from sgdlit.training.members import data_of, log_reports, members_of, reported


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
        self.errors = torch.zeros(window, 1)  # of the last steps' minibatches, by member: a ring, by step
        self._latest: tuple[int, dict[int, dict[str, float]]] = (-1, {})  # step and rows, by member

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.data = data_of(trainer)
        self.networks = [getattr(run, "network", None) for run in members_of(pl_module)]
        for data, network in zip(self.data, self.networks, strict=True):
            if not isinstance(data, MatrixSensing) or not isinstance(network, BilinearForm):
                raise UserError(
                    f"SensingReport: cannot look at {type(network).__name__} on {type(data).__name__}; "
                    "allowed: model.network: sgdlit.models.sensing.BilinearForm, data: "
                    "sgdlit.data.sensing.MatrixSensing"
                )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.linear = self.networks[0].matrix is not None
        like = next(pl_module.parameters())
        self.targets = [data.target.to(like) for data in self.data]
        if self.linear:
            spectra = {id(d): singular_values(d.target, d.r).tolist() for d in self.data}
            self.spectra = [spectra[id(data)] for data in self.data]
        members = len(self.networks)
        if self.errors.shape[1] != members:
            self.errors = torch.zeros(self.window, members)
        self.errors = self.errors.to(pl_module.device)
        self._sums = torch.zeros(2, device=pl_module.device)
        if trainer.global_step == 0 and self.linear:
            self._report(pl_module)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not self.linear:
            self._note_errors(trainer, pl_module, outputs["cost"], batch)
        if step_is_complete(trainer) and trainer.global_step % self.every_n_steps == 0:
            self._report(pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._latest[0] != trainer.global_step:
            self._report(pl_module)
        shown = f"sensing/{'relative_error' if self.linear else 'relative_squared_error'}"
        rows = [row for row in self._latest[1].values() if shown in row]
        if trainer.is_global_zero and rows:
            errors, samples = [row[shown] for row in rows], rows[0]["sensing/samples"]
            mean, several = sum(errors) / len(errors), len(self.networks) > 1
            spread = f" ({min(errors):.4g} to {max(errors):.4g} of {len(errors)} members)" if several else ""
            say(f"{shown.partition('/')[2].replace('_', ' ')} {mean:.4g}{spread} after {samples} samples")

    def state_dict(self) -> dict[str, Any]:
        return {"members": list(self.errors.T.cpu().clone())}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        errors = torch.stack(state_dict["members"], 1)
        if len(errors) != self.window:
            raise UserError(
                f"SensingReport.window: {self.window} differs from the checkpoint's; allowed: {len(errors)}"
            )
        self.errors = errors

    def _note_errors(self, trainer: Trainer, module: LightningModule, costs: Tensor, batch: Any) -> None:
        """Keep the errors of the latest minibatches, from the losses ½(y − p)² that they had on average."""
        if isinstance(batch, Block):
            owned = getattr(module, "owned", slice(0, 1))
            for k in range(max(0, len(batch) - self.window), len(batch)):
                targets = batch.batch(k, slice(0, len(batch.members)))[1]
                place = (batch.start + k) % self.window
                self.errors[place, owned] = relative_squared_error(costs[k, owned], targets)
            return
        self._sums += squared_sums(costs, batch[1])
        if step_is_complete(trainer):
            missed, squares = trainer.strategy.reduce(self._sums, reduce_op="sum")
            self.errors[(trainer.global_step - 1) % self.window, 0] = missed / squares
            self._sums.zero_()

    def _report(self, module: LightningModule) -> None:
        step = module.global_step
        rows = {k: self._row(k, step) for k in reported(module)}
        self._latest = (step, rows)
        log_reports(module, rows)

    def _row(self, k: int, step: int) -> dict[str, float]:
        """What there is to say about member k after ``step`` updates."""
        row = {"samples": step * self.data[k].batch_size}
        if self.linear:
            row |= self._of_the_matrix(k, step)
        elif step > 0:
            row["relative_squared_error"] = float(self.errors[:step, k].mean())
        return {f"sensing/{name}": value for name, value in row.items()}

    @torch.no_grad()
    def _of_the_matrix(self, k: int, step: int) -> dict[str, float]:
        matrix, target = self.networks[k].matrix, self.targets[k]
        both = torch.stack(
            (relative_error(matrix, target), sensing_risk(matrix, target, self.data[k].label_noise))
        )
        row = dict(zip(("relative_error", "population_risk"), both.tolist(), strict=True))
        if step % self.spectrum_every_n_steps == 0 and bool(matrix.isfinite().all()):
            own = singular_values(matrix, self.data[k].r).tolist()
            for name, values in (("singular_value", own), ("target_singular_value", self.spectra[k])):
                row |= {f"{name}_{i}": value for i, value in enumerate(values, start=1)}
        return row
