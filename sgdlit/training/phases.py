"""A learning-rate schedule in phases: warm up, hold, decay, in steps or in shares of the run.

scheduler:
  class_path: Phases
  init_args:
    phases:
      - {shape: linear, start: 0, end: 1, steps: 500}       # or share: 0.05
      - {shape: cosine, end: 0}                             # to the end of the run
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lightning.pytorch import Trainer
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from sgdlit.data.keyed_data import KeyedData
from sgdlit.data.members import MembersData
from sgdlit.foundations.errors import UserError

Shape = Literal["constant", "linear", "cosine", "exponential"]


@dataclass(frozen=True)
class Phase:
    """A part of a schedule: the factor of the learning rate goes from ``start`` to ``end``.

    At step t of n of the phase, with u = t/n, it is start + u·(end − start) (linear),
    end + (start − end)·(1 + cos πu)/2 (cosine) or start·(end/start)^u (exponential).

    Args:
        shape: how it goes; ``constant`` stays at ``start``.
        start: None begins where the phase before ended: 1 in the first one.
        end: None stays at ``start``.
        steps: length; None with no ``share`` either is all that is left of the run, in the last phase.
        share: length as a part of the run, above 0 and up to 1.
    """

    shape: Shape = "constant"
    start: float | None = None
    end: float | None = None
    steps: int | None = None
    share: float | None = None

    def factor(self, start: float, u: float) -> float:
        """At the part u of the phase, 0 to 1.

        Args:
            start: of the phase.
            u: 0 at its beginning, 1 where the next one begins.
        """
        end = self.reached(start)
        if self.shape == "linear":
            return start + u * (end - start)
        if self.shape == "cosine":
            return end + (start - end) * (1 + math.cos(math.pi * u)) / 2
        return start * (end / start) ** u if self.shape == "exponential" else start

    def reached(self, start: float) -> float:
        """The factor at its end."""
        return start if self.end is None or self.shape == "constant" else self.end


class Phases(LRScheduler):
    """Factors of the learning rate, phase after phase; after the last one its end holds.

    Where lengths are shares, or the last phase has none, the schedule follows from the length of the run,
    which it is told by :meth:`begin`: a resumed run must have the length that it had.

    Args:
        optimizer: whose rate is multiplied.
        phases: one after another.

    Raises:
        UserError: no phases, a phase with two lengths or without one that is not the last, a length or a
            factor that is not possible.
    """

    def __init__(self, optimizer: Optimizer, phases: list[Phase], last_epoch: int = -1) -> None:
        _check(phases)
        self._phases, self._ends = list(phases), [0] * len(phases)
        self.run_length: int | None = None
        super().__init__(optimizer, last_epoch)

    @property
    def follows_the_run(self) -> bool:
        """Whether the length of the run decides the schedule."""
        return any(phase.steps is None for phase in self._phases)

    def begin(self, length: int | None) -> None:
        """Tell the schedule how many steps the run has; None where it never ends.

        Raises:
            UserError: phases that are longer than the run, or that need a length where there is none.
        """
        if self.follows_the_run and length is None:
            raise UserError(
                "model.scheduler.phases: a share, or a phase to the end, needs a run that ends; allowed with "
                "trainer.max_steps, or phases in steps"
            )
        lengths = [self._length(phase, length) for phase in self._phases]
        total = sum(n for n in lengths if n is not None)
        if length is not None and (total > length or (total == length and lengths[-1] is None)):
            raise UserError(
                f"model.scheduler.phases: {total} steps of phases in a run of {length}; allowed: fewer, or "
                "shares of the run"
            )
        left = 0 if length is None else length - total
        lengths = [left if n is None else n for n in lengths]
        self._ends = [sum(lengths[: k + 1]) for k in range(len(lengths))]  # type: ignore[arg-type]
        self.run_length = length if self.follows_the_run else None
        for group, rate in zip(self.optimizer.param_groups, self.get_lr(), strict=True):
            group["lr"] = rate
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]

    @staticmethod
    def _length(phase: Phase, length: int | None) -> int | None:
        if phase.share is not None and length is not None:
            return max(1, round(phase.share * length))
        return phase.steps

    def factor(self, step: int) -> float:
        """The factor of update number ``step``, counted from 0."""
        start, first = 1.0, 0
        for phase, end in zip(self._phases, self._ends, strict=True):
            start = start if phase.start is None else phase.start
            if step < end:
                return phase.factor(start, (step - first) / (end - first))
            start, first = phase.reached(start), end
        return start

    def get_lr(self) -> list[float | Tensor]:
        """The rates of step ``last_epoch``, counted from 0."""
        factor = self.factor(self.last_epoch)
        return [factor * rate for rate in self.base_lrs]

    def state_dict(self) -> dict[str, Any]:
        return {"last_epoch": self.last_epoch, "run_length": self.run_length, "base_lrs": self.base_lrs}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.last_epoch, self.base_lrs = state_dict["last_epoch"], state_dict["base_lrs"]
        self._last_lr = [float(rate) for rate in self.get_lr()]


def _check(phases: Sequence[Phase]) -> None:
    if not phases:
        raise UserError("model.scheduler.phases: none; allowed: one or more")
    for k, phase in enumerate(phases):
        key = f"model.scheduler.phases.{k}"
        given = {"steps": phase.steps, "share": phase.share}
        if None not in given.values():
            raise UserError(f"{key}: steps and share; allowed: one of them")
        if k < len(phases) - 1 and phase.steps is None and phase.share is None:
            raise UserError(f"{key}: neither steps nor share; allowed without: the last phase")
        if phase.steps is not None and phase.steps < 1:
            raise UserError(f"{key}.steps: {phase.steps} is not possible; allowed: 1 or more")
        if phase.share is not None and not 0 < phase.share <= 1:
            raise UserError(f"{key}.share: {phase.share} is not possible; allowed: above 0, up to 1")
        least = "above 0" if phase.shape == "exponential" else "0 or more"
        for name, value in (("start", phase.start), ("end", phase.end)):
            if value is not None and not _possible(value, phase.shape):
                raise UserError(f"{key}.{name}: {value} is not possible; allowed: {least}")
        if phase.shape != "constant" and phase.end is None:
            raise UserError(f"{key}.end: missing; {phase.shape} goes to a factor, such as end: 0")
        if phase.shape == "constant" and phase.end is not None:
            raise UserError(
                f"{key}.end: {phase.end} of a constant phase; allowed: linear, cosine, exponential"
            )


def _possible(factor: float, shape: Shape) -> bool:
    return 0 <= factor < math.inf and (factor > 0 or shape != "exponential")


_COMPOSED = ("SequentialLR", "ChainedScheduler")


def refuse_composed(class_path: object) -> None:
    """Refuse torch's compositions, whose parts need an optimizer that a config cannot name.

    Args:
        class_path: of a schedule.

    Raises:
        UserError: with the way to write it.
    """
    name = str(class_path).rpartition(".")[2]
    if name in _COMPOSED:
        raise UserError(
            f"model.scheduler: {name} is composed of schedules that have their optimizer already; allowed: "
            "Phases, such as\n  {class_path: Phases, init_args: {phases: [{shape: linear, start: 0, end: 1, "
            "steps: 500}, {shape: cosine, end: 0}]}}"
        )


def run_length(trainer: Trainer, datamodule: Any) -> int | None:
    """Steps of a run, as far as can be said before its trainer has its data; None where it never ends."""
    known = [trainer.max_steps] if trainer.max_steps >= 0 else []
    epochs = trainer.max_epochs
    if isinstance(datamodule, KeyedData | MembersData) and epochs is not None and epochs >= 0:
        data = datamodule.first if isinstance(datamodule, MembersData) else datamodule
        micro, limit = trainer.accumulate_grad_batches, trainer.limit_train_batches
        batches = data.steps_per_epoch * micro
        batches = min(batches, limit) if isinstance(limit, int) else int(batches * limit)
        known.append(max(epochs, 1) * max(1, -(-batches // micro)))
    return min(known) if known else None


def length_in_flight(trainer: Trainer, datamodule: Any, schedulers: Sequence[Any]) -> float | None:
    """:func:`run_length`, once a trainer has its data.

    To know the length of an epoch Lightning loads data, before a resumed run is where it goes on: that is
    asked for only where a schedule needs it, of data that do not know their steps.
    """
    length = run_length(trainer, datamodule)
    counted = length is not None or isinstance(datamodule, KeyedData | MembersData)
    if counted or not any(isinstance(scheduler, Phases) for scheduler in schedulers):
        return length
    return trainer.estimated_stepping_batches


def tell_length(schedulers: Iterable[Any], length: float | None) -> None:
    """Tell the schedules in phases, among others, how long the run is."""
    known = None if length is None or math.isinf(length) else int(length)
    for scheduler in schedulers:
        if isinstance(scheduler, Phases):
            scheduler.begin(known)
