"""How many steps does a call take? As many as asked for, or as last long enough; never past what is due."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from lightning.pytorch import LightningDataModule, LightningModule, Trainer

from sgdlit.data.keyed_data import OnDeviceData
from sgdlit.foundations.errors import UserError
from sgdlit.training import due_steps

StepsPerCall = int | Literal["auto"]

_SECONDS = 0.1  # that a call should last: Lightning's share is then below 1 %, and signals are heard at once
_MOST = 2**16
_OVER_RANKS = 64  # steps of a call where several processes have to end their calls at the same steps


class BlockPlan:
    """step -> steps to take in the call that begins there: what a loader of blocks asks for.

    Nothing that is computed depends on it. Several ranks end their calls at the same steps, because whatever
    they exchange is exchanged there: none of them goes by its own clock.

    Args:
        trainer: whose clock and events end a block.
        steps_per_call: the most steps of a call; ``auto`` doubles and halves it by the clock on the wall, in
            a single process.
    """

    def __init__(self, trainer: Trainer, steps_per_call: StepsPerCall) -> None:
        self.trainer, self.adapts = trainer, steps_per_call == "auto" and trainer.world_size == 1
        self.size = 1 if self.adapts else _OVER_RANKS if steps_per_call == "auto" else int(steps_per_call)
        self._events = due_steps.events(trainer.callbacks)
        self._asked, self._length = time.perf_counter(), 0

    def __call__(self, step: int) -> int:
        if self.adapts and self._length == self.size:
            seconds = time.perf_counter() - self._asked
            if seconds < _SECONDS / 2:
                self.size = min(_MOST, 2 * self.size)
            elif seconds > 2 * _SECONDS:
                self.size = max(1, self.size // 2)
        due = due_steps.steps_until_due(self.trainer, self._events)
        self._asked, self._length = time.perf_counter(), min(self.size, due)
        return self._length

    @contextmanager
    def left_out(self) -> Iterator[None]:
        """What happens inside is no part of the time that a call takes."""
        begun = time.perf_counter()
        yield
        self._asked += time.perf_counter() - begun


def single_steps_because(
    trainer: Trainer,
    module: LightningModule,
    base: type[LightningModule],
    datamodule: LightningDataModule | None,
) -> str | None:
    """Why a run has to go step by step through Lightning's loop, in words; None if calls may take blocks.

    Args:
        trainer: of the run.
        module: what is trained.
        base: the class whose steps ``module`` takes, unless it has hooks of its own.
        datamodule: where the batches come from.
    """
    if not isinstance(datamodule, OnDeviceData):
        return f"data: {type(datamodule).__name__} makes one batch after another"
    own = due_steps.acts_inside_steps(module, base)
    if own is not None:
        return f"model: {type(module).__name__} has a {own} of its own"
    settings = {
        "trainer.accumulate_grad_batches": trainer.accumulate_grad_batches > 1,
        "trainer.gradient_clip_val": trainer.gradient_clip_val is not None,
        "trainer.overfit_batches": trainer.overfit_batches > 0,
        "trainer.precision": trainer.precision in ("16-mixed", "16-true"),
    }
    for name, acts in settings.items():
        if acts:
            return f"{name}: {getattr(trainer, name.removeprefix('trainer.'))}"
    reasons = (due_steps.acts_at_unknown_steps(callback) for callback in trainer.callbacks)
    return next((f"trainer.callbacks: {reason}" for reason in reasons if reason), None)


def check_steps_per_call(steps_per_call: StepsPerCall, engine: str, reason: str | None) -> None:
    """Refuse a number of steps per call, or an engine, that a run cannot take.

    Raises:
        UserError: below 1; above 1, or an engine by name, where there is a reason for single steps.
    """
    key = f"model.steps_per_call: {steps_per_call}"
    if steps_per_call != "auto" and (isinstance(steps_per_call, str) or steps_per_call < 1):
        raise UserError(f"{key} is not possible; allowed: auto, or 1 or more")
    if reason is not None and steps_per_call not in ("auto", 1):
        raise UserError(f"{key} is not possible with {reason}; allowed: auto or 1, which go step by step")
    if reason is not None and engine != "auto":
        raise UserError(f"model.engine: {engine} is not possible with {reason}; allowed: auto")
