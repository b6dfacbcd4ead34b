"""At which steps is something due? A call that takes many steps ends on each of them.

A callback that acts at steps says when: by ``every_n_steps``, a number, or by ``next_due(step)``, which
returns the first step after ``step`` at which it wants to be called, or None. A call goes on after the steps
of a callback that :class:`ActsInsideCalls`. Of Lightning's own callbacks it is known here.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Protocol, runtime_checkable

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import (
    DeviceStatsMonitor,
    LearningRateMonitor,
    ModelCheckpoint,
    ProgressBar,
    Timer,
)
from torch import Tensor

from sgdlit.data.batches import Block
from sgdlit.objectives.step_shown import Kind, Shown
from sgdlit.training.clock import steps_to_lightnings_next

_PER_BATCH = ("on_train_batch_start", "on_train_batch_end")
_PER_BACKWARD = ("on_before_backward", "on_after_backward", "on_before_optimizer_step", "on_before_zero_grad")


@runtime_checkable
class SaysWhenDue(Protocol):
    """A callback that knows when it acts next."""

    def next_due(self, step: int) -> int | None:
        """The first step after ``step`` at which it wants to be called; None for never."""


@runtime_checkable
class ActsEveryNSteps(Protocol):
    """A callback that acts at every multiple of a number of steps."""

    every_n_steps: int


@runtime_checkable
class ActsInsideCalls(SaysWhenDue, Protocol):
    """A callback that acts when it is due also where the call goes on afterwards."""

    def before_call(self, module: LightningModule, shows: Callable[[], Kind | None]) -> None:
        """A call begins; ``shows`` says what its steps can show."""

    def after_steps(
        self, trainer: Trainer, module: LightningModule, costs: Tensor, block: Block, ends_call: bool
    ) -> None:
        """Some steps of a call were taken, and what is due after them is not yet done.

        Args:
            trainer: of the run; its clock says how many updates were made.
            module: what is trained.
            costs: C of each step and member, ``[steps, members]``.
            block: the steps.
            ends_call: whether they were the last of the call: ``on_train_batch_end`` comes next.
        """

    def looks_at(self, block: Block) -> Collection[int]:
        """Numbers of updates inside of a block after which ``look`` is called."""

    def look(self, step: int, module: LightningModule) -> None:
        """See the parameters after so many updates. The clock and the optimizer are elsewhere."""

    def shown_steps(self, block: Block) -> Collection[int]:
        """Numbers of updates before steps of a block of which ``see_step`` is to be told."""

    def see_step(self, step: int, module: LightningModule, shown: Shown) -> None:
        """See what the own backward pass of the step after so many updates shows."""


Event = Callable[[Trainer], int | None]
"""The first step after ``trainer.global_step`` at which a callback acts; None for never."""


def steps_until_due(trainer: Trainer, events: Sequence[Event]) -> int:
    """Steps from ``trainer.global_step`` to the next one at which anything in the run is due, at least 1."""
    step = trainer.global_step
    due = [step + steps_to_lightnings_next(trainer), _next_multiple(step, trainer.log_every_n_steps)]
    due += [when for event in events if (when := event(trainer)) is not None]
    return min(due) - step


def events(callbacks: Sequence[Callback]) -> list[Event]:
    """When callbacks act, of those that act at steps."""
    return [event for callback in callbacks if (event := _event(callback)) is not None]


def inside_calls(callbacks: Sequence[Callback]) -> list[ActsInsideCalls]:
    """Those that do not end a call where they are due."""
    return [callback for callback in callbacks if isinstance(callback, ActsInsideCalls)]


def due_in(block: Block, callbacks: Sequence[ActsInsideCalls]) -> set[int]:
    """Numbers of updates inside of a block after which something is due."""
    found = set()
    for callback in callbacks:
        due = callback.next_due(block.start)
        while due is not None and due < block.end:
            found.add(due)
            due = callback.next_due(due)
    return found


def _event(callback: Callback) -> Event | None:
    if isinstance(callback, ActsInsideCalls):
        return None
    if isinstance(callback, SaysWhenDue):
        return lambda trainer: callback.next_due(trainer.global_step)
    if isinstance(callback, ActsEveryNSteps):
        return lambda trainer: _next_multiple(trainer.global_step, callback.every_n_steps)
    if isinstance(callback, ModelCheckpoint) and callback._every_n_train_steps > 0:
        return lambda trainer: _next_multiple(trainer.global_step, callback._every_n_train_steps)
    if isinstance(callback, LearningRateMonitor | DeviceStatsMonitor):
        return _at_the_start_of_a_batch
    return None


def _at_the_start_of_a_batch(trainer: Trainer) -> int:
    """The batch whose end is a multiple of ``log_every_n_steps`` is a call of its own."""
    step, period = trainer.global_step, trainer.log_every_n_steps
    return min(_next_multiple(step, period), _next_multiple(step + 1, period) - 1)


def _next_multiple(step: int, period: int) -> int:
    return (step // period + 1) * period


def acts_at_unknown_steps(callback: Callback) -> str | None:
    """Why a callback cannot follow calls of many steps, in words; None if it can."""
    cls = type(callback)
    between = [hook for hook in _PER_BACKWARD if _has_own(callback, hook)]
    if between:
        return f"{cls.__name__} acts inside a step ({between[0]})"
    if isinstance(callback, ModelCheckpoint):
        return _between_steps(callback)
    if isinstance(callback, LearningRateMonitor | DeviceStatsMonitor | ProgressBar | Timer):
        return None
    if isinstance(callback, SaysWhenDue | ActsEveryNSteps):
        return None
    if any(_has_own(callback, hook) for hook in _PER_BATCH):
        return f"{cls.__name__} acts at every batch, and says neither every_n_steps nor next_due(step)"
    return None


def _between_steps(callback: ModelCheckpoint) -> str | None:
    """What Lightning's checkpoints do under its own optimization alone."""
    if callback._train_time_interval is not None:
        return "ModelCheckpoint looks at the clock after every step (train_time_interval)"
    if callback._every_n_train_steps > 0 and callback.monitor is not None:
        return "ModelCheckpoint waits at its steps for a metric (every_n_train_steps with monitor)"
    return None


def _has_own(callback: Callback, hook: str) -> bool:
    """Whether a callback does something in a hook: by its class, or as a LambdaCallback by itself."""
    return hook in vars(callback) or getattr(type(callback), hook) is not getattr(Callback, hook)


def acts_inside_steps(module: LightningModule, base: type[LightningModule]) -> str | None:
    """The first hook between the steps' parts that a subclass of ``base`` has made its own; None if none."""
    hooks: tuple[str, ...] = (
        "training_step",
        "backward",
        "optimizer_step",
        "optimizer_zero_grad",
    )
    hooks += ("lr_scheduler_step", "configure_gradient_clipping", *_PER_BATCH, *_PER_BACKWARD)
    return next((hook for hook in hooks if getattr(type(module), hook) is not getattr(base, hook)), None)
