"""The one callback that takes measures: at which steps, of which members, on which rank, and logged where."""

import copy
import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import takewhile
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from sgdlit.algorithms import Member
from sgdlit.data.batches import Batch, Block
from sgdlit.data.keyed_data import KeyedData
from sgdlit.data.members import AsOneProcess, data_of
from sgdlit.foundations.console import say
from sgdlit.foundations.errors import UserError
from sgdlit.foundations.side_by_side import SideBySide
from sgdlit.measures.measure import (
    OF_EXAMPLES,
    OF_PARAMETERS,
    Examples,
    LogSpaced,
    Measure,
    Parameters,
    RunAtStep,
    check_cadence,
    require_positive,
)
from sgdlit.measures.relative_squared_error import squared_sums
from sgdlit.measures.undisturbed import Mode, is_finite, refuse_coupled_examples, undisturbed
from sgdlit.training.clock import step_is_complete
from sgdlit.training.log_spaced_validation import next_log_spaced
from sgdlit.training.module import Training
from sgdlit.training.rows import Row


class Measures(Callback):
    """Takes measures of every member at some steps and at the end, and logs them in one row each.

    What is logged at step t is about the parameters after t updates. Nothing that is measured changes the
    run: networks are in the mode of measures meanwhile, and random generators are left as they were.

    Args:
        measures: what is taken.
        every_n_steps: steps between two rows, for measures without a cadence of their own; with neither this
            nor ``at`` one row, at the end.
        at: log-spaced steps, in place of ``every_n_steps``.
        examples: n, how many examples of the training set are looked at, not augmented: the first of a
            permutation with the key (data.seed, "measures"); null for all of them. Of a stream they are
            examples that no step sees.
        mode: that of networks while they are measured: ``eval``, or ``train``, in which BatchNorm takes the
            statistics of the batch, and Dropout stays off.
        chunk_size: examples that are looked at together.

    Raises:
        UserError: an argument below 1; two cadences; no measures, or a run that one of them cannot be taken
            of; more examples than there are.
    """

    def __init__(
        self,
        measures: list[Measure],
        every_n_steps: int | None = None,
        at: LogSpaced | None = None,
        examples: int | None = 1000,
        mode: Mode = "eval",
        chunk_size: int = 200,
    ) -> None:
        if not measures:
            raise UserError("Measures.measures: none; allowed: one or more of sgdlit.measures")
        check_cadence("Measures", every_n_steps, at)
        require_positive("Measures", examples=examples, chunk_size=chunk_size)
        self.measures, self.period, self.at = list(measures), every_n_steps, at
        self.examples, self.mode, self.chunk_size = examples, mode, chunk_size
        self._members = 1
        self._sums = torch.zeros(2)
        self._last_step: float = 0
        self._latest: tuple[int, dict[int, Row]] = (-1, {})  # step and rows, by member
        self._data: list[KeyedData] = []  # by member, whole sets whatever the number of ranks
        self._chosen: list[Tensor] = []  # indices of examples, by member
        self._initial: list[Parameters] = []  # by member
        self._kept: dict[int, dict[int, Parameters]] = {}  # parameters of the last steps, by step and member

    def _needs(self, measures: Sequence[Measure]) -> set[str]:
        return {need for measure in measures for need in measure.needs}

    # At which steps

    def next_due(self, step: int) -> int | None:
        """The first step after ``step`` at which something is measured or kept; None for never."""
        found = []
        for measure in self.measures:
            for back in range(measure.looks_back + 1):
                due = self._next(measure, step + back)
                found += [when - back for when in (due, self._last_step) if when is not None]
        found = [when for when in found if step < when < math.inf]
        return int(min(found)) if found else None

    def _next(self, measure: Measure, step: int) -> int | None:
        """The first step after ``step`` at which a measure is due."""
        own = measure if measure.every_n_steps or measure.at else None
        period, at = (self.period, self.at) if own is None else (own.every_n_steps, own.at)
        if at is not None:
            return next_log_spaced(step, at.first, at.per_doubling)
        return None if period is None else (step // period + 1) * period

    def _is_due(self, measure: Measure, step: int) -> bool:
        return step >= self._last_step or self._next(measure, step - 1) == step

    def _is_looked_back_at(self, step: int) -> bool:
        """Whether a measure that is due within some updates looks back at this step."""
        return any(
            self._is_due(measure, step + back)
            for measure in self.measures
            for back in range(1, measure.looks_back + 1)
        )

    def check(self, module: LightningModule, datamodule: Any) -> None:
        """Refuse a run that cannot be measured, before it leaves a trace.

        Raises:
            UserError: naming the measure, what it cannot look at, and what is allowed.
        """
        if not isinstance(module, Training):
            raise UserError(
                f"Measures: cannot look at {type(module).__name__}; allowed: model: "
                "sgdlit.training.module.Training, with any network"
            )
        for member, data in zip(module.members, data_of(datamodule), strict=True):
            for measure in self.measures:
                measure.check(member.network, data)
                measure.check_optimizer(member.optimizer)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.check(pl_module, trainer.datamodule)
        assert isinstance(pl_module, Training)
        self._chosen = []
        for member, data in zip(pl_module.members, data_of(trainer.datamodule), strict=True):
            needs = self._needs(self.measures)
            if needs & OF_EXAMPLES:
                self._chosen.append(self._choose(data))
            if needs & {"example_norms", "example_products"}:
                with undisturbed(member.network, self.mode):
                    refuse_coupled_examples(member.network)

    def _choose(self, data: KeyedData) -> Tensor:
        try:
            return data.choose(self.examples, "measures")
        except UserError as error:
            raise UserError(f"Measures.examples: {error}") from None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._members = len(pl_module.members)
        self._data = [copy.copy(data) for data in data_of(trainer.datamodule)]
        for data in self._data:
            data.trainer = AsOneProcess(trainer)
        for measure in self.measures:
            measure.begin(self._members, pl_module.device)
        self._sums = torch.zeros(2, device=pl_module.device)
        self._last_step = trainer.estimated_stepping_batches
        step = trainer.global_step
        if "initial_parameters" in self._needs(self.measures):
            self._begin_at(step, pl_module)
        if step == 0:
            self._take(trainer, pl_module, [m for m in self.measures if self._next(m, 0) is not None])
            self._keep(step, pl_module)

    def _begin_at(self, step: int, module: Training) -> None:
        """Keep the parameters of the start."""
        if step == 0:
            self._initial = [_copy(member.network) for member in module.members]
        if not self._initial:
            raise UserError(
                "ckpt_path: the checkpoint has no parameters of the start, from which a measure takes "
                "distances; allowed: one of a run that had this measure from the start"
            )
        self._initial = [{n: p.to(module.device) for n, p in each.items()} for each in self._initial]

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._note(trainer, pl_module, outputs["cost"], batch)
        if not step_is_complete(trainer):
            return
        step = trainer.global_step
        due = [measure for measure in self.measures if self._is_due(measure, step)]
        if due:
            self._take(trainer, pl_module, due)
        self._keep(step, pl_module)

    def _keep(self, step: int, module: Training) -> None:
        """Copies of the parameters, where a measure looks back at this step."""
        self._kept = {s: kept for s, kept in self._kept.items() if s >= step - 1}
        if self._is_looked_back_at(step):
            self._kept[step] = {k: _copy(module.members[k].network) for k in module.here()}

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
        needs = self._needs(due)
        passing = [m for m in due if self._next(m, step - 1) != step]  # only because the run ends here
        states = [[m.state(k) for k in range(self._members)] for m in passing]

        def one(k: int) -> Row:
            run = self._run_at_step(trainer, module, k, needs)
            with self._looking_at(run, due):
                able = self._able(run, due)
                return {name: value for m in able for name, value in m.take(run, k).items()}

        with torch.inference_mode(False):
            found = SideBySide(len(members), module.device).map(one, members)
        rows = {k: row for k, row in zip(members, found, strict=True) if row}
        for measure, state in zip(passing, states, strict=True):
            measure.restore(state)  # a longer run, which this one may be the start of, would not be here
        self._latest = (step, rows)
        if module.several or rows:
            module.log_rows(rows)

    def _able(self, run: RunAtStep, due: Sequence[Measure]) -> Sequence[Measure]:
        """Those that can be taken: of a network that has diverged, none that looks at examples."""
        looking = [m for m in due if OF_EXAMPLES & set(m.needs)]
        return [m for m in due if m not in looking] if looking and not is_finite(run.network) else due

    def _looking_at(self, run: RunAtStep, due: Sequence[Measure]) -> AbstractContextManager[None]:
        """What the network is in while measures are taken: nothing, where none of them runs it."""
        if all(measure.needs and OF_PARAMETERS.issuperset(measure.needs) for measure in due):
            return nullcontext()
        return undisturbed(run.network, self.mode, run.data.seed, run.step)

    def _run_at_step(self, trainer: Trainer, module: Training, k: int, needs: set[str]) -> RunAtStep:
        """Member k as it is, with whole sets of data whatever the number of ranks."""
        member, step, device = module.members[k], trainer.global_step, module.device
        data = self._data[k]

        def batches(split: str, batch_size: int | None) -> Any:
            loader = data.evaluation_loader(split, batch_size)
            return (_as_trained(batch, trainer, member) for batch in loader)

        def chosen(part: slice) -> Batch:
            return _as_trained(data.chosen(self._chosen[k][part], device), trainer, member)

        examples = None
        if self._chosen:
            population = math.inf if data.training_size is None else data.training_size
            examples = Examples(chosen, len(self._chosen[k]), self.chunk_size, population)
        previous = takewhile(bool, (self._kept.get(step - back, {}).get(k) for back in (1, 2)))
        return RunAtStep(
            step,
            member.network,
            member.loss,
            data,
            batches,
            examples,
            member.optimizer,
            needs,
            self._initial[k] if self._initial else None,
            [{n: p.to(device) for n, p in kept.items()} for kept in previous if kept],
            member.gradient_factor(data.batch_size),
        )

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
        return {
            "members": [[m.state(k) for m in self.measures] for k in range(self._members)],
            "initial": [dict(each) for each in self._initial],
            "kept": {step: {k: dict(p) for k, p in kept.items()} for step, kept in self._kept.items()},
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._initial, self._kept = state_dict["initial"], state_dict["kept"]
        for i, measure in enumerate(self.measures):
            measure.restore([states[i] for states in state_dict["members"]])


def _copy(network: nn.Module) -> Parameters:
    return {name: p.detach().clone() for name, p in network.named_parameters()}


def _as_trained(batch: Batch, trainer: Trainer, member: Member) -> Batch:
    inputs, targets = trainer.precision_plugin.convert_input(batch)
    return member.in_memory_format(inputs), targets
