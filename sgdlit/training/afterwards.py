"""Measures that are taken afterwards, from what a run has stored: the same numbers as during the run.

What a measure looks at is a function of parameters, data, seed and step, so the run is put back to each of
its stored steps, and the callback that takes measures during a run takes them there.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from sgdlit.data.members import AsOneProcess, data_of
from sgdlit.foundations.errors import UserError, with_allowed
from sgdlit.measures.measure import Measure, Parameters
from sgdlit.runs.checkpoint_files import check_same_parameters, load_checkpoint, network_state
from sgdlit.runs.folder import checkpoint_path
from sgdlit.runs.snapshots import has_snapshot, load_snapshot, snapshot_path, snapshot_steps
from sgdlit.training.divergence import finite_members
from sgdlit.training.measure_plan import plan_of
from sgdlit.training.measuring import Measures
from sgdlit.training.module import Training
from sgdlit.training.rows import Row


class StoredSteps:
    """What a run was at the steps of which it left something: its snapshots, and its last checkpoint.

    Args:
        folder: of the run.

    Raises:
        UserError: there is neither a snapshot nor a checkpoint.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self._checkpoint = folder, checkpoint_path(folder, "resume")
        if not self.all:
            raise UserError(
                f"--run: {str(folder)!r} has no snapshots and no checkpoint; a run keeps snapshots with "
                "--checkpoints.snapshots.first 1"
            )

    @cached_property
    def last(self) -> int | None:
        """The step of the last checkpoint; None where there is none."""
        if not self._checkpoint.is_file():
            return None
        return int(load_checkpoint(self._checkpoint)["global_step"])

    @cached_property
    def all(self) -> list[int]:
        """Every step that can be measured, from the first to the last."""
        return sorted({*snapshot_steps(self.folder), *(() if self.last is None else (self.last,))})

    def chosen(self, at: str) -> list[int]:
        """The steps that ``all``, ``last``, or some steps with commas between them, stand for.

        Raises:
            UserError: it is none of these, or nothing is stored of a step.
        """
        if at in ("all", "last"):
            return self.all if at == "all" else self.all[-1:]
        words = [word.strip() for word in at.split(",")]
        if not all(word.isdigit() for word in words):
            raise UserError(f"--at: {at!r} is not allowed; allowed: all, last, or steps such as 0,100,1000")
        steps = sorted({int(word) for word in words})
        for step in steps:
            if step not in self.all:
                around = [*[k for k in self.all if k < step][-1:], *[k for k in self.all if k > step][:1]]
                near = " or ".join(map(str, around))
                problem = f"--at: nothing is stored of step {step}; did you mean {near}?"
                raise UserError(with_allowed(problem, [str(known) for known in self.all]))
        return steps

    def has(self, step: int) -> bool:
        """Whether the parameters of a step are stored, be it only to be looked back at."""
        return step == self.last or has_snapshot(self.folder, step)

    def path(self, step: int) -> Path:
        """The file of a step."""
        return self._checkpoint if step == self.last else snapshot_path(self.folder, step)

    def content(self, step: int) -> dict[str, Any]:
        """What is stored of a step; of the last one its checkpoint, which has the optimizer's state."""
        return load_checkpoint(self._checkpoint) if step == self.last else load_snapshot(self.folder, step)


class StoppedAt(AsOneProcess):
    """A trainer as measures see it at a step of a run: in one process, with its data."""

    def __init__(self, trainer: Trainer, datamodule: Any, step: int) -> None:
        super().__init__(trainer)
        self.datamodule, self.global_step = datamodule, step


class Afterwards:
    """Takes measures of the stored steps of a run.

    Args:
        stored: of the run.
        measures: the callback that takes them during a run, not attached to any.
        module: built from the config of the run.
        datamodule: alike.
        trainer: alike, in a single process.
        members: numbers of the members that are measured.

    Raises:
        UserError: a module of another kind, or examples or measures that are not possible.
    """

    def __init__(
        self,
        stored: StoredSteps,
        measures: Measures,
        module: LightningModule,
        datamodule: Any,
        trainer: Trainer,
        members: Sequence[int],
    ) -> None:
        if not isinstance(module, Training):
            raise UserError(
                f"--run: {type(module).__name__} cannot be measured afterwards; allowed: runs of "
                "sgdlit.training.module.Training. A callback Measures takes its measures during the run"
            )
        self.stored, self.measures, self.module = stored, measures, module
        self.datamodule, self.trainer, self.members = datamodule, trainer, list(members)
        module.to(trainer.strategy.root_device)
        module.begin_again(trainer, datamodule)
        measures.accept(self._at(0), module, datamodule)
        self._taking = measures.begin(self._at(0), module)

    @property
    def examples(self) -> int | None:
        """How many examples measures look at that do not say so themselves; None for all of a stream."""
        return self.measures.view.count(data_of(self.datamodule)[0].training_size)

    def prices(self) -> dict[str, float]:
        """What each measure costs each time, of the members that are measured, in steps of the run."""
        view = replace(self.measures.view, every_n_steps=None, at=None)
        members = [self.module.members[k] for k in self.members]
        data = [data_of(self.datamodule)[k] for k in self.members]
        steps = max(self.stored.all[-1], 2)
        plan = plan_of(self.measures.measures, view, members, data, steps, self.module.engine, shows=False)
        return {
            type(line.measure).__name__: line.gradients / line.times / plan.per_step for line in plan.lines
        }

    def _at(self, step: int) -> StoppedAt:
        return StoppedAt(self.trainer, self.datamodule, step)

    def unavailable(self, measure: Measure, step: int) -> str | None:
        """Why a measure cannot be taken at a step, in words; None where it can, or has no value there."""
        if type(measure).note is not Measure.note:
            return "it sees the steps themselves, as they are made"
        if "initial_parameters" in measure.needs and not self.stored.has(0):
            return "the parameters of the start are not stored; a run keeps them with checkpoints.snapshots"
        if step and measure.looks_back and not self.stored.has(step - 1):
            return (
                "it looks back at the update before a step, whose parameters are not stored; a run keeps "
                "them with checkpoints.snapshots.before: true"
            )
        if step and "optimizer_state" in measure.needs and not self._has_state(step):
            return (
                "the state of the optimizer is not stored; a run keeps it with checkpoints.snapshots."
                "optimizer: true"
            )
        return None

    def _has_state(self, step: int) -> bool:
        return any(own["state"] for own in self.stored.content(step)["optimizer_states"])

    def rows(self, steps: Sequence[int]) -> Iterator[tuple[int, dict[int, Row]]]:
        """Each step with a row for every member whose parameters are finite there.

        Raises:
            UserError: a file is damaged, or belongs to another run.
        """
        for step in steps:
            self._put_back(step)
            finite = finite_members(self.module)
            due = [measure for measure in self.measures.measures if self.unavailable(measure, step) is None]
            members = [k for k in self.members if finite[k]]
            found = self._taking.found(self._at(step), self.module, members, due)
            yield step, {k: row for k, (row, _) in found.items() if row}

    def _put_back(self, step: int) -> None:
        """Let the run be what it was at a step."""
        content = self.stored.content(step)
        check_same_parameters(self.stored.path(step), content["state_dict"], self.module.state_dict())
        self.module.load_state_dict(content["state_dict"])
        for member, state in zip(self.module.members, content["optimizer_states"], strict=True):
            member.optimizer.load_state_dict(state)
        needs = {need for measure in self.measures.measures for need in measure.needs}
        back = max(measure.looks_back for measure in self.measures.measures)
        start = self._parameters(0) if "initial_parameters" in needs and self.stored.has(0) else {}
        known = [step - b for b in range(1, back + 1) if self.stored.has(step - b)]
        before = {earlier: self._parameters(earlier) for earlier in known}
        self.measures.looked_back.initial, self.measures.looked_back.steps = list(start.values()), before

    def _parameters(self, step: int) -> dict[int, Parameters]:
        """The parameters of every member at a step, by its number."""
        content = self.stored.content(step)
        return {k: self._of(content, k) for k in range(len(self.module.members))}

    def _of(self, content: dict[str, Any], k: int) -> dict[str, Tensor]:
        state = network_state(content, k)
        named = dict(self.module.members[k].network.named_parameters())
        return {name: state[name].to(p.device) for name, p in named.items()}
