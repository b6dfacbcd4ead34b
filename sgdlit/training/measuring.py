"""The one callback that takes measures: at which steps, of which members, on which rank, and logged where."""

import copy
import math
import time
from collections import Counter
from collections.abc import Iterator, Sequence
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
    Cadence,
    Examples,
    Measure,
    Parameters,
    RunAtStep,
    check_cadence,
    require_positive,
)
from sgdlit.measures.presets import PresetName, preset
from sgdlit.measures.relative_squared_error import squared_sums
from sgdlit.measures.undisturbed import Mode, is_finite, refuse_coupled_examples, undisturbed
from sgdlit.training.arrays_of_run import ArraysOfRun, NamedArrays
from sgdlit.training.clock import planned_steps, step_is_complete
from sgdlit.training.measure_plan import Count, Plan, View, check_budget, in_percent, plan_of
from sgdlit.training.module import Training
from sgdlit.training.own_module import OwnModule, check_own_module, in_words, left_out
from sgdlit.training.rows import Row, over_ranks


class Measures(Callback):
    """Takes measures of every member at some steps and at the end, and logs them in one row each.

    What is logged at step t is about the parameters after t updates. Nothing that is measured changes the
    run: networks are in the mode of measures meanwhile, and random generators are left as they were. What
    they cost is said before the run, and how long they took at its end, also as ``measures/time_share``: the
    time for measures over that of the steps alone.

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

    Raises:
        UserError: an argument below 1; two cadences; no measures, or a run that one of them cannot be taken
            of; more examples than there are; a budget that is negative, or less than what is planned.
    """

    def __init__(
        self,
        measures: list[Measure | PresetName],
        every_n_steps: int | None = None,
        at: Cadence | None = None,
        examples: Count = "auto",
        mode: Mode = "eval",
        chunk_size: int = 200,
        budget: float | None = None,
    ) -> None:
        if not measures:
            raise UserError("Measures.measures: none; allowed: one or more of sgdlit.measures")
        check_cadence("Measures", every_n_steps, at)
        given = None if examples == "auto" else examples
        require_positive("Measures", examples=given, chunk_size=chunk_size)
        if budget is not None and not budget >= 0:
            raise UserError(f"Measures.budget: {budget} is not possible; allowed: 0 or more, or null")
        self.measures, self._optional = _expanded(measures)
        self.view = View(every_n_steps, at, examples, mode, chunk_size)
        self._views = {measure: self.view.of(measure) for measure in self.measures}
        self.budget = budget
        self._plan: Plan | None = None
        self._says_price = False  # a command asks for it; a script's own Trainer does not
        self._timed = _Timed()
        self._arrays = ArraysOfRun({})
        self._members = 1
        self._sums = torch.zeros(2)
        self._last_step: float = 0
        self._latest: tuple[int, dict[int, Row]] = (-1, {})  # step and rows, by member
        self._own: OwnModule | None = None  # in the place of a module that is no Training
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
        return self._views[measure].next_step(step)

    def _is_due(self, measure: Measure, step: int) -> bool:
        return step >= self._last_step or self._next(measure, step - 1) == step

    def _is_looked_back_at(self, step: int) -> bool:
        """Whether a measure that is due within some updates looks back at this step."""
        return any(
            self._is_due(measure, step + back)
            for measure in self.measures
            for back in range(1, measure.looks_back + 1)
        )

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
        self._look_ahead(trainer, module.members, data_of(datamodule))

    def accept(self, trainer: Trainer | AsOneProcess, module: Training, datamodule: Any) -> None:
        """Leave out what a preset has and cannot be taken of a run, and choose the examples.

        Raises:
            UserError: a measure that cannot be taken, or examples that are not there.
        """
        data = data_of(datamodule)
        self._check_all(trainer, module.members, data)
        self._chosen = [self._choose(own) for own in data]

    def _check_all(
        self, trainer: Trainer | AsOneProcess, members: Sequence[Member], data: Sequence[KeyedData]
    ) -> None:
        for measure in list(self.measures):
            try:
                for member, own in zip(members, data, strict=True):
                    self._check_one(measure, member, own)
            except UserError as error:
                if measure not in self._optional:
                    raise
                self._leave_out(measure, str(error), trainer)

    def _accept_own(self, trainer: Trainer, module: LightningModule) -> None:
        """Leave out what cannot be taken of a module of one's own, and say why.

        Raises:
            UserError: nothing is left, or the module's loss cannot be asked for.
        """
        check_own_module(module)
        missing = left_out(module, self.measures)
        if len(missing) == len(self.measures):
            raise UserError(f"Measures.measures: {in_words(missing)}; allowed: others")
        self.measures = [measure for measure in self.measures if measure not in missing]
        if missing and trainer.is_global_zero:
            say(in_words(missing))

    def _check_one(self, measure: Measure, member: Member, data: KeyedData) -> None:
        measure.check(member.network, data)
        measure.check_optimizer(member.optimizer)
        if set(measure.needs) & {"example_norms", "example_products"}:
            with undisturbed(member.network, self._views[measure].mode):
                refuse_coupled_examples(member.network)

    def _leave_out(self, measure: Measure, why: str, trainer: Trainer | AsOneProcess) -> None:
        """A measure of a preset."""
        self.measures.remove(measure)
        if trainer.is_global_zero:
            name = type(measure).__name__
            say(f"{name} is left out of the measures: {why.removeprefix(f'{name}: ')}")
        if not self.measures:
            raise UserError("Measures.measures: none is left; allowed: one or more that can be taken")

    def _choose(self, data: KeyedData) -> Tensor:
        """The examples that any of the measures looks at: each takes the first n of them."""
        found = torch.empty(0, dtype=torch.int64)
        for measure in self.measures:
            if set(measure.needs) & OF_EXAMPLES:
                try:
                    own = data.choose(self._views[measure].count(data.training_size), "measures")
                except UserError as error:
                    owner = "Measures" if measure.examples is None else type(measure).__name__
                    raise UserError(f"{owner}.examples: {error}") from None
                found = max(found, own, key=len)
        return found

    def _look_ahead(self, trainer: Trainer, members: Sequence[Member], data: Sequence[KeyedData]) -> None:
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
            return plan_of(measures, view, members, data, int(steps))

        plan, before = again(self.measures, self.view), self._plan
        self._plan = plan
        if plan != before and self._says_price and trainer.is_global_zero and (plan.share or self._optional):
            say("\n".join(["", *plan.table(), "(steps each: the price in steps of the run)", ""]))
        if self.budget is not None:
            check_budget(self.budget, plan, again, self.view)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit":
            self._check(trainer, pl_module, trainer.datamodule)

    def _look_at(self, trainer: Trainer, module: LightningModule) -> OwnModule:
        """A module of one's own, whose data are known once training begins."""
        own = OwnModule(module, trainer)
        indices = self._choose(own.data)
        if len(indices):
            own.hold(indices)
        self._chosen = [torch.arange(len(indices))]
        members = own.members
        self._check_all(trainer, members, [own.data])
        self._look_ahead(trainer, members, [own.data])
        return own

    def _runs(self, module: LightningModule) -> Training | OwnModule:
        """What is looked at."""
        runs = module if isinstance(module, Training) else self._own
        assert runs is not None, "a module of one's own is looked at from on_train_start on"
        return runs

    def begin(self, trainer: Trainer | AsOneProcess, module: Training | OwnModule) -> None:
        """Make ready for measures of these runs."""
        self._members = len(module.members)
        own = [module.data] if isinstance(module, OwnModule) else data_of(trainer.datamodule)
        self._data = [copy.copy(data) for data in own]
        for data in self._data:
            data.trainer = AsOneProcess(trainer)
        for measure in self.measures:
            measure.begin(self._members, module.device)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not isinstance(pl_module, Training):
            self._own = self._look_at(trainer, pl_module)
        runs = self._runs(pl_module)
        self.begin(trainer, runs)
        self._sums = torch.zeros(2, device=pl_module.device)
        self._last_step = trainer.estimated_stepping_batches
        self._timed = _Timed()
        step = trainer.global_step
        self._arrays = ArraysOfRun(self._about())
        self._arrays.begin(trainer)
        if "initial_parameters" in self._needs(self.measures):
            self._begin_at(step, trainer, runs)
        if step == 0:
            self._take(trainer, runs, [m for m in self.measures if self._next(m, 0) is not None])
            self._keep(step, runs)

    def _about(self) -> dict[str, dict[str, Any]]:
        """What the arrays of each name are."""
        seeds = [data.seed for data in self._data]
        return {
            name: {
                "measure": type(measure).__name__,
                "formula": measure.formula,
                "axes": axes,
                "examples": self._views[measure].count(self._data[0].training_size),
                "mode": self._views[measure].mode,
                "seed": seeds[0] if len(set(seeds)) == 1 else seeds,
            }
            for measure in self.measures
            for name, axes in measure.arrays.items()
        }

    def _begin_at(self, step: int, trainer: Trainer, module: Training | OwnModule) -> None:
        """Keep the parameters of the start."""
        if step == 0:
            self._initial = [_copy(member.network) for member in module.members]
        if not self._initial:
            why = (
                "the checkpoint has no parameters of the start, from which a measure takes distances; "
                "allowed: one of a run that had this measure from the start"
            )
            for measure in list(self.measures):
                if "initial_parameters" in measure.needs:
                    if measure not in self._optional:
                        raise UserError(f"ckpt_path: {why}")
                    self._leave_out(measure, why, trainer)
        self._initial = [{n: p.to(module.device) for n, p in each.items()} for each in self._initial]

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if isinstance(pl_module, Training):
            self._note(trainer, pl_module, outputs["cost"], batch)
        if not step_is_complete(trainer):
            return
        step = trainer.global_step
        due = [measure for measure in self.measures if self._is_due(measure, step)]
        runs = self._runs(pl_module)
        if due:
            self._take(trainer, runs, due)
        self._keep(step, runs)

    def _keep(self, step: int, module: Training | OwnModule) -> None:
        """Copies of the parameters, where a measure looks back at this step."""
        self._kept = {s: kept for s, kept in self._kept.items() if s >= step - 1}
        if self._is_looked_back_at(step):
            self._kept[step] = {k: _copy(module.members[k].network) for k in module.here()}

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._latest[0] != trainer.global_step:
            self._take(trainer, self._runs(pl_module), self.measures)
        several = self._runs(pl_module).several
        latest = over_ranks(self._latest[1], trainer) if several else self._latest[1]
        if trainer.is_global_zero:
            for measure in self.measures:
                self._say(measure.headline, latest, trainer.global_step)
        if self._plan is not None and self._plan.share:
            self._tell_time(self._plan.share, trainer, self._runs(pl_module))

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._timed.begin("evaluations")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._timed.end()

    def _tell_time(self, planned: float, trainer: Trainer, module: Training | OwnModule) -> None:
        """Log and say which share of the time measures took, beside the planned one."""
        share = self._timed.share
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
        several = f" ({min(values):.4g} to {max(values):.4g} of {len(values)} members)"
        words = name.partition("/")[2].replace("_", " ")
        mean = sum(values) / len(values)
        say(f"{words} {mean:.4g}{several if len(values) > 1 else ''} after {step} steps")

    # What is taken

    def _take(self, trainer: Trainer, module: Training | OwnModule, due: Sequence[Measure]) -> None:
        """One row of each member of this process."""
        members = module.here() if module.several or trainer.is_global_zero else []
        self._timed.begin("measures", module.device)
        passing = [m for m in due if self._views[m].next_step(trainer.global_step - 1) != trainer.global_step]
        states = [[m.state(k) for k in range(self._members)] for m in passing]
        found = self.found(trainer, module, members, due)
        for measure, state in zip(passing, states, strict=True):
            measure.restore(state)  # a longer run, which this one may be the start of, would not be here
        rows = {k: row for k, (row, _) in found.items() if row}
        self._latest = (trainer.global_step, rows)
        if module.several or rows:
            module.log_rows(rows)
        if any(measure.arrays for measure in due):
            self._arrays.keep(trainer, module, {k: arrays for k, (_, arrays) in found.items()})
        self._timed.end()

    def found(
        self,
        trainer: Trainer | AsOneProcess,
        module: Training | OwnModule,
        members: Sequence[int],
        due: Sequence[Measure],
    ) -> dict[int, tuple[Row, NamedArrays]]:
        """What some measures find of some members at the trainer's step: a row and arrays of each."""

        groups = [(view, those, self._needs(those)) for view, those in self._by_view(due)]

        def one(k: int) -> tuple[Row, NamedArrays]:
            row: Row = {}
            arrays: NamedArrays = {}
            for view, those, needs in groups:
                run = self._run_at_step(trainer, module, k, needs, view)
                with self._looking_at(run, those, view.mode):
                    for measure in self._able(run, those):
                        row |= measure.take(run, k)
                        if measure.arrays:
                            taken = measure.take_arrays(run, k)
                            arrays |= {name: array.cpu().numpy() for name, array in taken.items()}
            return row, arrays

        with torch.inference_mode(False):
            found = SideBySide(len(members), module.device).map(one, members)
        return dict(zip(members, found, strict=True))

    def remember(self, initial: list[Parameters], kept: dict[int, dict[int, Parameters]]) -> None:
        """Let measures look back at parameters that are stored.

        Args:
            initial: those of the start, by member; none where no measure needs them.
            kept: those of some steps, by step and member.
        """
        self._initial, self._kept = initial, kept

    def _able(self, run: RunAtStep, due: Sequence[Measure]) -> Sequence[Measure]:
        """Those that can be taken: of a network that has diverged, none that looks at examples."""
        if OF_EXAMPLES.isdisjoint(run.needs) or is_finite(run.network):
            return due
        return [measure for measure in due if OF_EXAMPLES.isdisjoint(measure.needs)]

    def _by_view(self, due: Sequence[Measure]) -> Iterator[tuple[View, list[Measure]]]:
        """Measures that look at the same examples in the same mode share what they need."""
        by_what: dict[Any, list[Measure]] = {}
        for measure in due:
            by_what.setdefault(self._views[measure].looks_at, []).append(measure)
        for those in by_what.values():
            yield self._views[those[0]], those

    def _looking_at(
        self, run: RunAtStep, those: Sequence[Measure], mode: Mode
    ) -> AbstractContextManager[None]:
        """What the network is in while measures are taken: nothing, where none of them runs it."""
        if OF_PARAMETERS.issuperset(run.needs) and all(measure.needs for measure in those):
            return nullcontext()
        return undisturbed(run.network, mode, run.data.seed, run.step)

    def _run_at_step(
        self,
        trainer: Trainer | AsOneProcess,
        module: Training | OwnModule,
        k: int,
        needs: set[str],
        view: View,
    ) -> RunAtStep:
        """Member k as it is, with whole sets of data whatever the number of ranks."""
        member, step, device = module.members[k], trainer.global_step, module.device
        data = self._data[k]

        def batches(split: str, batch_size: int | None) -> Any:
            loader = data.evaluation_loader(split, batch_size)
            return (_as_trained(batch, trainer, member) for batch in loader)

        examples = None
        if not OF_EXAMPLES.isdisjoint(needs):
            indices = self._chosen[k][: view.count(data.training_size)]

            def chosen(part: slice) -> Batch:
                return _as_trained(data.chosen(indices[part], device), trainer, member)

            population = math.inf if data.training_size is None else data.training_size
            examples = Examples(chosen, len(indices), view.chunk_size, population)
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
            "members": [
                {name: m.state(k) for name, m in self._by_name().items()} for k in range(self._members)
            ],
            "initial": [dict(each) for each in self._initial],
            "kept": {step: {k: dict(p) for k, p in kept.items()} for step, kept in self._kept.items()},
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._initial, self._kept = state_dict["initial"], state_dict["kept"]
        members = state_dict["members"]
        for name, measure in self._by_name().items():
            if all(name in states for states in members):
                measure.restore([states[name] for states in members])

    def _by_name(self) -> dict[str, Measure]:
        """Each measure by its class; further ones of the same class with a number."""
        seen: Counter[str] = Counter()
        found = {}
        for measure in self.measures:
            name = type(measure).__name__
            seen[name] += 1
            found[name if seen[name] == 1 else f"{name} {seen[name]}"] = measure
        return found


class _Timed:
    """Seconds of training for measures, for evaluations, and in all."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._spent = {"measures": 0.0, "evaluations": 0.0}
        self._since = ("", 0.0)

    def begin(self, what: str, device: torch.device | None = None) -> None:
        """From here on; what steps have left to a GPU is waited for."""
        if device is not None and device.type == "cuda":
            torch.cuda.synchronize(device)
        self._since = (what, time.perf_counter())

    def end(self) -> None:
        what, since = self._since
        if what:
            self._spent[what] += time.perf_counter() - since
        self._since = ("", 0.0)

    @property
    def share(self) -> float:
        """The time for measures over that of the steps."""
        whole = time.perf_counter() - self._start
        return self._spent["measures"] / max(whole - sum(self._spent.values()), 1e-9)


def _expanded(given: Sequence[Measure | PresetName]) -> tuple[list[Measure], list[Measure]]:
    """All measures, and those of them that come from presets; what is given by itself replaces these."""
    named = [one for one in given if isinstance(one, Measure)]
    kinds = {type(one) for one in named}
    optional: dict[type, Measure] = {}
    for name in given:
        if isinstance(name, str):
            optional |= {type(one): one for one in preset(name) if type(one) not in kinds}
    return [*optional.values(), *named], list(optional.values())


def _copy(network: nn.Module) -> Parameters:
    return {name: p.detach().clone() for name, p in network.named_parameters()}


def _as_trained(batch: Batch, trainer: Trainer | AsOneProcess, member: Member) -> Batch:
    inputs, targets = trainer.precision_plugin.convert_input(batch)
    return member.in_memory_format(inputs), targets
