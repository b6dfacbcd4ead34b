"""The one callback that takes measures: at which steps, of which members, on which rank, and logged where."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from sgdlit.algorithms import EngineName, Member
from sgdlit.data.batches import Block
from sgdlit.data.keyed_data import KeyedData
from sgdlit.data.members import AsOneProcess, data_of
from sgdlit.foundations.arguments import require_counts
from sgdlit.foundations.console import say
from sgdlit.foundations.errors import UserError
from sgdlit.measures.measure import Cadence, Measure, check_cadence
from sgdlit.measures.presets import PresetName
from sgdlit.measures.relative_squared_error import squared_sums
from sgdlit.measures.undisturbed import Mode
from sgdlit.objectives.step_shown import Kind, Shown, StepGradient, StepNorms
from sgdlit.training.arrays_of_run import ArraysOfRun
from sgdlit.training.clock import planned_steps, step_is_complete
from sgdlit.training.looked_back import LookedBack
from sgdlit.training.measure_budget import check_budget
from sgdlit.training.measure_choice import MeasureChoice
from sgdlit.training.measure_plan import Plan, in_percent, plan_of
from sgdlit.training.measure_time import MeasureTime
from sgdlit.training.measure_views import Count, View
from sgdlit.training.module import Training
from sgdlit.training.own_module import OwnModule, check_own_module, in_words, left_out
from sgdlit.training.rows import Row, over_ranks
from sgdlit.training.taking import Taking


class Measures(Callback):
    """Takes measures of every member at some steps and at the end, and logs them in one row each.

    What is logged at step t is about the parameters after t updates. Nothing that is measured changes the
    run: networks are in the mode of measures meanwhile, and random generators are left as they were. What
    they cost is said before the run, and how long they took at its end, also as ``measures/time_share``: the
    time for measures over that of the steps alone, see :mod:`sgdlit.training.measure_time`.

    It works in any LightningModule, see :mod:`sgdlit.training.own_module`, under ``fit`` and under a Trainer
    in a script.

    Args:
        measures: what is taken; the name of a preset (``basic``, ``standard``, ``full``) stands for those of
            its measures that can be taken of the run and are not in the list by themselves.
        every_n_steps: steps between two rows, for measures without a cadence of their own; with neither this
            nor ``at`` one row, at the end.
        at: log-spaced steps, or some by number, in place of ``every_n_steps``.
        examples: n, how many examples of the training set are looked at, not augmented: the first of a
            permutation with the key (data.seed, "measures"); ``auto``: 500, or all of a smaller set; null for
            all of them. Of a stream they are examples that no step sees.
        mode: that of networks while they are measured: ``eval``, or ``train``, in which BatchNorm takes the
            statistics of the batch, and Dropout stays off.
        chunk_size: examples that are looked at together.
        budget: the most that measures may cost, as a share of the gradients that the steps of the run take;
            null for no limit.

    Attributes:
        time: how long they take.

    Raises:
        UserError: an argument below 1; two cadences; no measures, or a run that one of them cannot be taken
            of; more examples than there are; a budget that is negative, or less than what is planned.
    """

    def __init__(
        self,
        measures: list[Measure | PresetName] | None = None,
        every_n_steps: int | None = None,
        at: Cadence | None = None,
        examples: Count = "auto",
        mode: Mode = "eval",
        chunk_size: int = 200,
        budget: float | None = None,
    ) -> None:
        if not measures:
            raise UserError(
                "Measures.measures: none; allowed: one or more of sgdlit.measures, or --measures NAMES"
            )
        check_cadence("Measures", every_n_steps, at)
        given = None if examples == "auto" else examples
        require_counts("Measures", examples=given, chunk_size=chunk_size)
        if budget is not None and not budget >= 0:
            raise UserError(f"Measures.budget: {budget} is not possible; allowed: 0 or more, or null")
        self.choice = MeasureChoice(measures, View(every_n_steps, at, examples, mode, chunk_size))
        self.budget = budget
        self._plan: Plan | None = None
        self._says_price = False  # a command asks for it; a script's own Trainer does not
        self.time = MeasureTime()
        self._arrays = ArraysOfRun({})
        self._members = 1
        self._sums = torch.zeros(2)
        self._last_step: float = 0
        self._latest: tuple[int, dict[int, Row]] = (-1, {})  # step and rows, by member
        self._taken: tuple[int, list[Measure]] = (-1, [])  # what was taken at the latest step
        self._ended_at: int | None = None  # where an earlier end of the run has had all measures
        self._own: OwnModule | None = None  # in the place of a module that is no Training
        self._chosen: list[Tensor] = []  # indices of examples, by member
        self.looked_back = LookedBack()
        self._shown: dict[int, StepNorms] = {}  # what steps have shown, by updates before
        self._taking: Taking | None = None  # once training has begun

    @property
    def measures(self) -> list[Measure]:
        """What is taken."""
        return self.choice.measures

    @property
    def view(self) -> View:
        """How measures are taken that do not say so themselves."""
        return self.choice.view

    def next_due(self, step: int) -> int | None:
        """The first step after ``step`` at which something is measured; None for never."""
        return self.choice.next_due(step, self._last_step)

    def looks_at(self, block: Block) -> list[int]:
        """Steps inside of a block, in which nothing is measured, whose parameters are kept."""
        return self.choice.looked_back_at(block.start, block.end, self._last_step)

    # What is refused, and what it will cost

    def check(self, trainer: Trainer, module: LightningModule, datamodule: Any) -> None:
        """Refuse a run that cannot be measured, before it leaves a trace, and say what measures will cost.

        What a preset has and cannot be measured of this run is left out, and that is said.

        Raises:
            UserError: naming the measure, what it cannot look at, and what is allowed; or the budget.
        """
        self._says_price = True
        self._check(trainer, module, datamodule)

    def _check(self, trainer: Trainer, module: LightningModule, datamodule: Any) -> None:
        if not isinstance(module, Training):
            self._accept_own(trainer, module)
            return
        self.accept(trainer, module, datamodule)
        shows = module.single_steps is None
        engine = module.engine if shows else "loop"
        self._look_ahead(trainer, module.members, data_of(datamodule), engine, shows)

    def accept(self, trainer: Trainer | AsOneProcess, module: Training, datamodule: Any) -> None:
        """Leave out what a preset has and cannot be taken of a run, and choose the examples.

        Raises:
            UserError: a measure that cannot be taken, or examples that are not there.
        """
        data = data_of(datamodule)
        self.choice.check(module.members, data, trainer.is_global_zero)
        self._chosen = [self.choice.examples(own) for own in data]

    def _accept_own(self, trainer: Trainer, module: LightningModule) -> None:
        """Leave out what cannot be taken of a module of one's own, and say why.

        Raises:
            UserError: nothing is left, or the module's loss cannot be asked for.
        """
        check_own_module(module)
        missing = left_out(module, self.measures)
        if len(missing) == len(self.measures):
            raise UserError(f"Measures.measures: {in_words(missing)}; allowed: others")
        self.choice.measures = [measure for measure in self.measures if measure not in missing]
        if missing and trainer.is_global_zero:
            say(in_words(missing))

    def _look_ahead(
        self,
        trainer: Trainer,
        members: Sequence[Member],
        data: Sequence[KeyedData],
        engine: EngineName = "loop",
        shows: bool = False,
    ) -> None:
        """What the measures will cost.

        Raises:
            UserError: more than the budget, or a run of which nobody knows how many steps it has.
        """
        steps = planned_steps(trainer, data[0].steps_per_epoch)
        if not 0 < steps < math.inf:
            if self.budget is not None and steps:
                raise UserError(
                    f"Measures.budget: {self.budget} of a run without end is not known; allowed: "
                    "trainer.max_steps or trainer.max_epochs, or null"
                )
            return

        def again(measures: Sequence[Measure], view: View) -> Plan:
            return plan_of(measures, view, members, data, int(steps), engine, shows)

        plan, before = again(self.measures, self.view), self._plan
        self._plan = plan
        if (
            plan != before
            and self._says_price
            and trainer.is_global_zero
            and (plan.share or self.choice.has_optional)
        ):
            say("\n".join(["", *plan.table(), "(steps each: the price in steps of the run)", ""]))
        if self.budget is not None:
            check_budget(self.budget, plan, again, self.view)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit":
            self._check(trainer, pl_module, trainer.datamodule)

    def _look_at(self, trainer: Trainer, module: LightningModule) -> OwnModule:
        """A module of one's own, whose data are known once training begins."""
        own = OwnModule(module, trainer)
        indices = self.choice.examples(own.data)
        if len(indices):
            own.hold(indices)
        self._chosen = [torch.arange(len(indices))]
        members = own.members
        self.choice.check(members, [own.data], trainer.is_global_zero)
        self._look_ahead(trainer, members, [own.data])
        return own

    def _runs(self, module: LightningModule) -> Training | OwnModule:
        """What is looked at."""
        runs = module if isinstance(module, Training) else self._own
        assert runs is not None, "a module of one's own is looked at from on_train_start on"
        return runs

    def begin(self, trainer: Trainer | AsOneProcess, module: Training | OwnModule) -> Taking:
        """Make ready for measures of these runs."""
        self._members = len(module.members)
        own = [module.data] if isinstance(module, OwnModule) else data_of(trainer.datamodule)
        self._taking = Taking(self.choice, trainer, own, self._chosen, self.looked_back)
        for measure in self.measures:
            measure.begin(self._members, module.device)
        return self._taking

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not isinstance(pl_module, Training):
            self._own = self._look_at(trainer, pl_module)
        runs = self._runs(pl_module)
        taking = self.begin(trainer, runs)
        self._sums = torch.zeros(2, device=pl_module.device)
        self._last_step = trainer.estimated_stepping_batches
        self.time = MeasureTime()
        step = trainer.global_step
        self._arrays = ArraysOfRun(self.choice.about_arrays(taking.data))
        self._arrays.begin(trainer)
        if "initial_parameters" in self.choice.needs:
            self._begin_at(step, trainer, runs)
        if step == 0:
            self._take(
                trainer, runs, [m for m in self.measures if self.choice.view_of(m).next_step(0) is not None]
            )
            self._keep(step, runs)

    def _begin_at(self, step: int, trainer: Trainer, module: Training | OwnModule) -> None:
        """Have the parameters of the start."""
        if step == 0:
            self.looked_back.start([member.network for member in module.members])
        if not self.looked_back.initial:
            self.choice.without_start(trainer.is_global_zero)
        self.looked_back.to(module.device)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if isinstance(pl_module, Training) and not isinstance(batch, Block):
            self._note(trainer, pl_module, outputs["cost"], batch)
        if step_is_complete(trainer):
            self._measure(trainer, self._runs(pl_module))

    def before_call(self, module: LightningModule, shows: Callable[[], Kind | None]) -> None:
        wanted = any(measure.found_in_a_step for measure in self.measures)
        alone = not self._runs(module).several  # ranks of an ensemble write their rows together
        self.choice.see_steps(shows() if wanted and alone else None)

    def shown_steps(self, block: Block) -> list[int]:
        return [step for step in self.choice.shown_in(block) if step != self._ended_at]

    def see_step(self, step: int, module: LightningModule, shown: Shown) -> None:
        assert isinstance(module, Training), "no other module shows any"
        if isinstance(shown, StepGradient):
            self._take_of_gradient(step, module, shown)
        else:
            self._shown[step] = shown

    def _take_of_gradient(self, step: int, module: Training, shown: StepGradient) -> None:
        """One row, before the step changes the parameters."""
        assert self._taking is not None, "on_train_start comes first"
        self.time.begin("measures", module.device)
        due = self.choice.of_step(step)
        self._log_finite(module, step, self._taking.of_gradient(module.trainer, module, step, shown, due))
        self.time.end()

    def _log_finite(self, module: Training, step: int, row: Row) -> None:
        (k,) = module.here()
        if row and all(map(math.isfinite, row.values())):
            module.log_rows({k: row}, step=step)

    def _take_of_norms(self, module: Training) -> None:
        """One row for each step that has shown its norms; several at a time take less than one by one."""
        assert self._taking is not None, "on_train_start comes first"
        shown, self._shown = self._shown, {}
        if not shown:
            return
        self.time.begin("measures", module.device)
        (k,), data = module.here(), self._taking.data
        rows: dict[int, Row] = {step: {} for step in shown}
        for step, norms in shown.items():
            for measure in self.choice.of_step(step):
                rows[step] |= measure.take_of_norms(norms, data[k])
        for step, row in rows.items():
            self._log_finite(module, step, row)
        self.time.end()

    def after_steps(
        self, trainer: Trainer, module: LightningModule, costs: Tensor, block: Block, ends_call: bool
    ) -> None:
        assert isinstance(module, Training), "no other module takes many steps"
        self._note_block(module, costs, block)
        self._take_of_norms(module)
        if not ends_call:
            self._measure(trainer, module)

    def look(self, step: int, module: LightningModule) -> None:
        self._keep(step, self._runs(module))

    def _measure(self, trainer: Trainer, module: Training | OwnModule) -> None:
        """What is due at the trainer's step."""
        step = trainer.global_step
        due = self.choice.due(step, self._last_step)
        if due:
            self._take(trainer, module, due)
        if step >= self._last_step:
            self._ended_at = step
        self._keep(step, module)

    def _keep(self, step: int, module: Training | OwnModule) -> None:
        """Copies of the parameters, where a measure looks back at this step."""
        seen = module.here() if self.choice.is_looked_back_at(step, self._last_step) else ()
        self.looked_back.keep(step, {k: module.members[k].network for k in seen})

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        missing = [one for one in self.measures if one not in self._taken_at(trainer.global_step)]
        if missing:
            self._take(trainer, self._runs(pl_module), missing)
        several = self._runs(pl_module).several
        latest = over_ranks(self._latest[1], trainer) if several else self._latest[1]
        if trainer.is_global_zero:
            for measure in self.measures:
                self._say(measure.headline, latest, trainer.global_step)
        if self._plan is not None and self._plan.share:
            self._tell_time(self._plan.share, trainer, self._runs(pl_module))

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.time.begin("evaluations")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.time.end()

    def _tell_time(self, planned: float, trainer: Trainer, module: Training | OwnModule) -> None:
        """Log and say which share of the time measures took, beside the planned one."""
        share = self.time.share
        members = module.here() if module.several or trainer.is_global_zero else []
        if module.several or members:
            module.log_rows({k: {"measures/time_share": share} for k in members})
        if trainer.is_global_zero:
            found = f"{in_percent(share)}; planned {in_percent(planned)}"
            say(f"time of measures over that of the steps: {found}")

    def _say(self, name: str | None, rows: dict[int, Row], step: int) -> None:
        values = [row[name] for row in rows.values() if name in row]
        if name is None or not values:
            return
        values = [value for value in values if value == value] or values  # NaN of members that diverged
        several = f" ({min(values):.4g} to {max(values):.4g} of {len(values)} members)"
        words = name.partition("/")[2].replace("_", " ")
        mean = sum(values) / len(values)
        say(f"{words} {mean:.4g}{several if len(values) > 1 else ''} after {step} steps")

    # What is taken

    def _take(self, trainer: Trainer, module: Training | OwnModule, due: Sequence[Measure]) -> None:
        """One row of each member of this process."""
        assert self._taking is not None, "on_train_start comes first"
        members = module.here() if module.several or trainer.is_global_zero else []
        self.time.begin("measures", module.device)
        step = trainer.global_step
        passing = [measure for measure in due if measure not in self.choice.by_cadence(step)]
        states = [[m.state(k) for k in range(self._members)] for m in passing]
        if isinstance(module, Training) and not members:
            self._taking.help(trainer, module, due)
        found = self._taking.found(trainer, module, members, due)
        for measure, state in zip(passing, states, strict=True):
            measure.restore(state)  # a longer run, which this one may be the start of, would not be here
        rows = {k: row for k, (row, _) in found.items() if row}
        before = self._latest[1] if self._latest[0] == step else {}
        self._taken = (step, [*self._taken_at(step), *due])
        self._latest = (step, {k: before.get(k, {}) | row for k, row in rows.items()})
        if module.several or rows:
            module.log_rows(rows)
        if any(measure.arrays for measure in due):
            self._arrays.keep(trainer, module, {k: arrays for k, (_, arrays) in found.items()})
        self.time.end()

    def _taken_at(self, step: int) -> list[Measure]:
        """What was taken between two steps."""
        return self._taken[1] if self._taken[0] == step else []

    def _noting(self) -> list[Measure]:
        return [m for m in self.measures if type(m).note is not Measure.note]

    def _note_block(self, module: Training, costs: Tensor, block: Block) -> None:
        """Let measures of the steps themselves see the losses of some steps."""
        everyone = slice(0, len(block.members))

        def of_step(k: int) -> Tensor:
            return squared_sums(costs[k, module.owned], block.batch(k, everyone)[1])

        for measure in self._noting():
            measure.note(of_step, block.start, len(block), module.owned)

    def _note(self, trainer: Trainer, module: Training, costs: Tensor, batch: Any) -> None:
        """Let them see the loss of a step, or of a micro-batch of it."""
        noting = self._noting()
        if not noting:
            return
        self._sums += squared_sums(costs, batch[1])
        if step_is_complete(trainer):
            sums = trainer.strategy.reduce(self._sums, reduce_op="sum").unsqueeze(1)
            for measure in noting:
                measure.note(lambda _: sums, trainer.global_step - 1, 1, slice(0, 1))
            self._sums.zero_()

    def state_dict(self) -> dict[str, Any]:
        by_name = self.choice.by_name()
        states = [{name: m.state(k) for name, m in by_name.items()} for k in range(self._members)]
        return {"members": states, "ended_at": self._ended_at} | self.looked_back.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.looked_back.load_state_dict(state_dict)
        self._ended_at = state_dict.get("ended_at")
        members = state_dict["members"]
        for name, measure in self.choice.by_name().items():
            if all(name in states for states in members):
                measure.restore([states[name] for states in members])
