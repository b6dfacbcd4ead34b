"""How far a fit is: steps, time passed and left (evaluations included), the latest loss and accuracies."""

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar, Timer

from sgdlit.foundations.console import listener
from sgdlit.foundations.progress import Progress

_SHOWN = ("train/loss", "train/accuracy", "val/accuracy", "test/accuracy")


class StepProgress(ProgressBar):
    """Shows a fit's :class:`Progress` in steps; while the terminal is lent, it tells the listener instead."""

    def __init__(self) -> None:
        super().__init__()
        self._progress = Progress(hidden=True)
        self._enabled = True

    def disable(self) -> None:
        self._enabled = False

    def enable(self) -> None:
        self._enabled = True

    def next_due(self, step: int) -> None:
        """It is drawn when a call ends."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._progress = Progress(
            "step",
            trainer.estimated_stepping_batches,
            done=trainer.global_step,
            told=listener(),
            hidden=not (self._enabled and trainer.is_global_zero) and listener() is None,
            stays=True,
        ).start()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._progress.is_due:
            self._show(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._progress.note("evaluating")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._show(trainer)
        self._progress.stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._progress.stop()

    def _show(self, trainer: Trainer) -> None:
        self._progress.show(trainer.global_step, _numbers(trainer), _seconds_left(trainer))


def _numbers(trainer: Trainer) -> str:
    """The latest losses and accuracies in words."""
    known = trainer.callback_metrics
    return "  ".join(f"{name} {float(known[name]):.4g}" for name in _SHOWN if name in known)


def _seconds_left(trainer: Trainer) -> float | None:
    """Seconds that the trainer's time limits leave; None without a limit."""
    timers = [callback for callback in trainer.callbacks if isinstance(callback, Timer)]
    limits = [left for timer in timers if (left := timer.time_remaining()) is not None]
    return min(limits, default=None)
