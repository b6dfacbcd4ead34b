"""One progress bar for the whole run, counted in steps, with an ETA that includes validation.

On a terminal it is drawn live; elsewhere (a log file, CI) a line is printed now and then.
"""

import sys
import time
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar, Timer

from sgdlit.foundations.console import PRINT_SECONDS, clock_face, listener, say

_REDRAW_SECONDS = 0.25
_SHOWN = ("train/loss", "train/accuracy", "val/accuracy", "test/accuracy")


class StepProgress(ProgressBar):
    """Shows step, total, elapsed time, ETA and the latest loss and accuracies."""

    def __init__(self) -> None:
        super().__init__()
        self._bar: Any = None
        self._task: Any = None
        self._shown = True
        self._start_time = self._last_time = 0.0
        self._start_step = 0
        self._total: float = 0

    def disable(self) -> None:
        self._shown = False

    def enable(self) -> None:
        self._shown = True

    def next_due(self, step: int) -> None:
        """It is drawn when a call ends."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._total = trainer.estimated_stepping_batches
        self._start_step, self._start_time = trainer.global_step, time.monotonic()
        self._last_time = self._start_time
        if self._shown and trainer.is_global_zero and sys.stderr.isatty() and listener() is None:
            self._bar = _make_bar()
            bounded = self._total < float("inf")
            self._task = self._bar.add_task("", total=self._total if bounded else None, text="")
            self._bar.start()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now = time.monotonic()
        printed = self._bar is None and listener() is None
        if now - self._last_time < (PRINT_SECONDS if printed else _REDRAW_SECONDS):
            return
        self._last_time = now
        self._show(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._bar is not None:
            self._bar.update(self._task, completed=trainer.global_step, text="evaluating")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._show(trainer)
        self._stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _show(self, trainer: Trainer) -> None:
        report = listener()
        if report is not None:
            report(trainer.global_step / self._total if self._total else 1.0, "  ".join(_numbers(trainer)))
        elif self._bar is not None:
            self._bar.update(self._task, completed=trainer.global_step, text=self._text(trainer))
        elif self._shown and trainer.is_global_zero:
            total = f"/{self._total:.0f}" if self._total < float("inf") else ""
            say(f"step {trainer.global_step}{total}  {self._text(trainer)}")

    def _text(self, trainer: Trainer) -> str:
        elapsed = time.monotonic() - self._start_time
        times = f"{clock_face(elapsed)} passed"
        left = self._seconds_left(trainer, elapsed)
        return "  ".join([times if left is None else f"{times}, {clock_face(left)} left", *_numbers(trainer)])

    def _seconds_left(self, trainer: Trainer, elapsed: float) -> float | None:
        done = trainer.global_step - self._start_step
        estimates = [
            timer.time_remaining()
            for timer in trainer.callbacks
            if isinstance(timer, Timer) and timer.time_remaining() is not None
        ]
        if done and self._total < float("inf"):
            estimates.append(elapsed / done * (self._total - trainer.global_step))
        return max(0.0, min(estimates)) if estimates else None


def _numbers(trainer: Trainer) -> list[str]:
    """The latest losses and accuracies in words."""
    known = trainer.callback_metrics
    return [f"{name} {float(known[name]):.4g}" for name in _SHOWN if name in known]


def _make_bar() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (BarColumn(bar_width=24), MofNCompleteColumn(), TextColumn("{task.fields[text]}"))
    return Progress(*columns, console=Console(stderr=True), refresh_per_second=4)
