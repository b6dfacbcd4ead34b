"""The one callback that takes measures: at which steps, of which members, on which rank, and logged where."""

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from sgdlit.algorithms import Member
from sgdlit.data.batches import Batch, Block
from sgdlit.data.members import AsOneProcess, data_of
from sgdlit.foundations.console import say
from sgdlit.foundations.errors import UserError
from sgdlit.foundations.side_by_side import SideBySide
from sgdlit.measures.measure import Measure, RunAtStep, undisturbed
from sgdlit.measures.relative_squared_error import squared_sums
from sgdlit.training.clock import step_is_complete
from sgdlit.training.module import Training
from sgdlit.training.rows import Row


class Measures(Callback):
    """Takes measures of every member at some steps and at the end, and logs them in one row each.

    What is logged at step t is about the parameters after t updates. Nothing that is measured changes the
    run: networks are in evaluation mode meanwhile, and random generators are left as they were.

    Args:
        measures: what is taken.
        every_n_steps: steps between two rows, for measures without a cadence of their own; None for one
            row, at the end.

    Raises:
        UserError: an argument below 1; no measures, or a run that one of them cannot be taken of.
    """

    def __init__(self, measures: list[Measure], every_n_steps: int | None = None) -> None:
        if not measures:
            raise UserError("Measures.measures: none; allowed: one or more of sgdlit.measures")
        if every_n_steps is not None and every_n_steps < 1:
            raise UserError(f"Measures.every_n_steps: {every_n_steps} is not possible; allowed: 1 or more")
        self.measures, self.period = list(measures), every_n_steps
        self._members = 1
        self._sums = torch.zeros(2)
        self._last_step: float = 0
        self._latest: tuple[int, dict[int, Row]] = (-1, {})  # step and rows, by member

    def next_due(self, step: int) -> int | None:
        """The first step after ``step`` at which something is measured; None for never."""
        periods = [period for measure in self.measures if (period := self._period(measure))]
        return min(((step // period + 1) * period for period in periods), default=None)

    def _period(self, measure: Measure) -> int | None:
        return measure.every_n_steps or self.period

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if not isinstance(pl_module, Training):
            raise UserError(
                f"Measures: cannot look at {type(pl_module).__name__}; allowed: model: "
                "sgdlit.training.module.Training, with any network"
            )
        for member, data in zip(pl_module.members, data_of(trainer), strict=True):
            for measure in self.measures:
                measure.check(member.network, data)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._members = len(pl_module.members)
        for measure in self.measures:
            measure.begin(self._members, pl_module.device)
        self._sums = torch.zeros(2, device=pl_module.device)
        self._last_step = trainer.estimated_stepping_batches
        if trainer.global_step == 0:
            self._take(trainer, pl_module, [m for m in self.measures if self._period(m)])

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._note(trainer, pl_module, outputs["cost"], batch)
        if not step_is_complete(trainer):
            return
        step = trainer.global_step
        due = [m for m in self.measures if (period := self._period(m)) and step % period == 0]
        if step >= self._last_step:
            due = self.measures
        if due:
            self._take(trainer, pl_module, due)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._latest[0] != trainer.global_step:
            self._take(trainer, pl_module, self.measures)
        if trainer.is_global_zero:
            for measure in self.measures:
                self._say(measure.headline, trainer.global_step)

    def _say(self, name: str | None, step: int) -> None:
        values = [row[name] for row in self._latest[1].values() if name in row]
        if name is None or not values:
            return
        several = f" ({min(values):.4g} to {max(values):.4g} of {len(values)} members)"
        words = name.partition("/")[2].replace("_", " ")
        mean = sum(values) / len(values)
        say(f"{words} {mean:.4g}{several if len(values) > 1 else ''} after {step} steps")

    # What is taken

    def _take(self, trainer: Trainer, module: Training, due: Sequence[Measure]) -> None:
        """One row of each member of this process."""
        step = trainer.global_step
        members = module.here() if module.several or trainer.is_global_zero else []

        def one(k: int) -> Row:
            run = run_at_step(trainer, module, k)
            with undisturbed(run.network):
                return {name: value for m in due for name, value in m.take(run, k).items()}

        with torch.inference_mode(False):
            found = SideBySide(len(members), module.device).map(one, members)
        rows = {k: row for k, row in zip(members, found, strict=True) if row}
        self._latest = (step, rows)
        if module.several or rows:
            module.log_rows(rows)

    def _note(self, trainer: Trainer, module: Training, costs: Tensor, batch: Any) -> None:
        """Let measures of the steps themselves see the losses of a call."""
        noting = [m for m in self.measures if type(m).note is not Measure.note]
        if not noting:
            return
        if isinstance(batch, Block):
            everyone = slice(0, len(batch.members))

            def of_step(k: int) -> Tensor:
                return squared_sums(costs[k, module.owned], batch.batch(k, everyone)[1])

            for measure in noting:
                measure.note(of_step, batch.start, len(batch), module.owned)
            return
        self._sums += squared_sums(costs, batch[1])
        if step_is_complete(trainer):
            sums = trainer.strategy.reduce(self._sums, reduce_op="sum").unsqueeze(1)
            for measure in noting:
                measure.note(lambda _: sums, trainer.global_step - 1, 1, slice(0, 1))
            self._sums.zero_()

    def state_dict(self) -> dict[str, Any]:
        return {"members": [[m.state(k) for m in self.measures] for k in range(self._members)]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for i, measure in enumerate(self.measures):
            measure.restore([states[i] for states in state_dict["members"]])


def run_at_step(trainer: Trainer, module: Training, k: int) -> RunAtStep:
    """Member k as it is, with whole sets of data whatever the number of ranks."""
    member = module.members[k]
    data = copy.copy(data_of(trainer)[k])
    data.trainer = AsOneProcess(trainer)

    def batches(split: str, batch_size: int | None) -> Iterator[Batch]:
        loader = data.evaluation_loader(split, batch_size)
        return (_as_trained(batch, trainer, member) for batch in loader)

    return RunAtStep(trainer.global_step, member.network, member.loss, data, batches)


def _as_trained(batch: Batch, trainer: Trainer, member: Member) -> Batch:
    inputs, targets = trainer.precision_plugin.convert_input(batch)
    return member.in_memory_format(inputs), targets
