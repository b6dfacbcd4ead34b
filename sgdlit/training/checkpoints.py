"""Checkpoints that are whole or absent, written at step boundaries, and stopping on a signal.

A signal only sets a flag. The flag is read at the end of a step, when parameters, optimizer, schedules and
counters agree, so a resumed run ends bitwise where the uninterrupted one ends. A validation that is due at
the same step is finished first, because Lightning would leave it out after a resume.
"""

import signal
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.trainer.states import TrainerFn

from sgdlit.data.batches import Block
from sgdlit.foundations.console import say, warn
from sgdlit.foundations.errors import UserError, in_words, refused_by_the_system
from sgdlit.runs.charts import Charts
from sgdlit.runs.checkpoint_files import save_checkpoint
from sgdlit.runs.folder import checkpoint_path, write_failure
from sgdlit.runs.metrics_file import MetricsFile
from sgdlit.runs.snapshots import remove_snapshots_after
from sgdlit.training.clock import (
    end_training_here,
    repair_resumed_epoch,
    step_is_complete,
    validation_is_due,
)
from sgdlit.training.divergence import diverged
from sgdlit.training.lightnings_own import warn_of_another_order
from sgdlit.training.module import Training
from sgdlit.training.ranks import LOST, lost_a_rank
from sgdlit.training.snapshots import Snapshots

_RANKS_AGREE_EVERY = 16  # steps between two exchanges of the flag over ranks


class AtomicCheckpointIO(TorchCheckpointIO):
    """What Lightning writes checkpoints with: whole or not at all."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        save_checkpoint(checkpoint, Path(path))


class StopSignals:
    """Remembers the first SIGINT, SIGTERM or SIGUSR1; a second SIGINT interrupts at once."""

    caught = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)

    def __init__(self) -> None:
        self.received = 0
        self._before: dict[int, Any] = {}

    def listen(self) -> None:
        self.received = 0
        self._before = {number: signal.signal(number, self._remember) for number in self.caught}

    def forget(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _remember(self, number: int, frame: Any) -> None:
        if self.received and number == signal.SIGINT:
            raise KeyboardInterrupt
        if not self.received and number == signal.SIGINT:
            say("\nstopping after this step, with a checkpoint (press again to stop at once)")
        self.received = self.received or number


class Checkpoints(Callback):
    """Keeps ``checkpoints/resume.ckpt`` and ``checkpoints/best.ckpt`` in the folder of the run.

    ``resume.ckpt`` is the state after the latest multiple of ``every_n_steps``, at the end, or where a signal
    stopped the run; ``best.ckpt`` is the state with the highest validation accuracy. Neither ever holds a
    state that is not finite.

    Args:
        every_n_steps: steps between two writes of ``resume.ckpt``.
        snapshots: steps at which light files are kept, from which measures are taken afterwards; null: none.
    """

    def __init__(self, every_n_steps: int = 1000, snapshots: Snapshots | None = None) -> None:
        if every_n_steps < 1:
            raise UserError(f"checkpoints.every_n_steps: {every_n_steps}; allowed: 1 or more")
        self.every_n_steps, self.snapshots = every_n_steps, snapshots
        self.folder: Path | None = None
        self.signals = StopSignals()
        self.stopped_by = 0
        self._due = False
        self._last_step: int | float = 0
        self._saved_step = -1
        self._max_steps: int | None = None

    def next_due(self, step: int) -> int:
        """The first step after ``step`` at which a checkpoint or a snapshot is written."""
        due = (step // self.every_n_steps + 1) * self.every_n_steps
        return due if self.snapshots is None else min(due, self.snapshots.next_due(step))

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        # After all others, so that a time limit or an early stop that they find at a step is known here.
        trainer.callbacks = [callback for callback in trainer.callbacks if callback is not self] + [self]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.folder = trainer.strategy.broadcast(self.folder)  # known to the first rank, which made it
        self._last_step = trainer.estimated_stepping_batches
        self.stopped_by, self._due, self._max_steps = 0, False, None
        self._saved_step = trainer.global_step if trainer.global_step else -1
        repair_resumed_epoch(trainer)
        # Lightning has installed its own handlers by now, and restores what was there before at the end.
        self.signals.listen()
        _ask_no_rank_at_every_step(trainer)
        if trainer.is_global_zero and self.folder is not None:
            remove_snapshots_after(self.folder, trainer.global_step)
        if trainer.global_step == 0:
            self._write_snapshot(trainer, pl_module)
        elif trainer.is_global_zero:
            warn_of_another_order(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not step_is_complete(trainer):
            return
        self._write_snapshot(trainer, pl_module)
        signalled = self._heard(trainer, at_every_call=isinstance(batch, Block))
        if trainer.global_step >= self._last_step or trainer.should_stop:
            trainer.should_stop = self._due = True  # Lightning then validates once more, at the end
        else:
            self.stopped_by = signalled
            self._due = bool(signalled) or trainer.global_step % self.every_n_steps == 0
        if self._due and not diverged(trainer) and not validation_is_due(trainer):
            self._save_resume(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking or diverged(trainer):
            return
        if isinstance(pl_module, Training) and pl_module.improved:
            trainer.save_checkpoint(self._path("best"))
        if (self._due or trainer.should_stop) and step_is_complete(trainer):
            self._save_resume(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.signals.forget()
        if self._saved_step != trainer.global_step and not diverged(trainer):
            self._save_resume(trainer)  # another callback ended the run after its last step
        if self._max_steps is not None:
            trainer.fit_loop.epoch_loop.max_steps = self._max_steps

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self.signals.forget()
        if trainer.is_global_zero and self.folder is not None:
            cause = refused_by_the_system(exception)
            named = f"{type(exception).__name__}: {exception}".split("\n")[0]
            why = LOST if lost_a_rank(exception) else named if cause is None else in_words(cause)
            try:
                write_failure(self.folder, trainer.global_step, why)
            except OSError as error:
                warn(f"status not written ({in_words(error)}): the run ended with {why}")

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        tables = [logger for logger in trainer.loggers if isinstance(logger, MetricsFile)]
        for logger in trainer.loggers:
            if isinstance(logger, Charts):
                logger.bring_to_the_file()
        checkpoint["sgdlit_rows"] = tables[0].rows if tables else 0
        if tables:
            tables[0].keep_through_a_loss_of_power()
            checkpoint["sgdlit_table"] = tables[0].seal
        for charts in (logger for logger in trainer.loggers if isinstance(logger, Charts)):
            charts.experiment.flush()
            checkpoint["sgdlit_charts"] = charts.state

    def _save_resume(self, trainer: Trainer) -> None:
        self._due, self._saved_step = False, trainer.global_step
        trainer.save_checkpoint(self._path("resume"))
        if self.stopped_by:
            self._max_steps = end_training_here(trainer)

    def _write_snapshot(self, trainer: Trainer, module: LightningModule) -> None:
        if self.snapshots is not None and self.folder is not None:
            self.snapshots.write(trainer, module, self.folder)

    def _heard(self, trainer: Trainer, at_every_call: bool) -> int:
        """The signal that came, or 0: once all ranks know of it, so that they stop at the same step.

        Calls of many steps end at the same steps on every rank, and are few.
        """
        if trainer.world_size == 1:
            return self.signals.received
        if trainer.global_step % _RANKS_AGREE_EVERY and not at_every_call:
            return 0
        number = torch.tensor(self.signals.received, device=trainer.strategy.root_device)
        torch.distributed.all_reduce(number, op=torch.distributed.ReduceOp.MAX)
        return int(number)

    def _path(self, name: str) -> Path:
        assert self.folder is not None, "the folder of the run is set before training starts"
        return checkpoint_path(self.folder, name)


def _ask_no_rank_at_every_step(trainer: Trainer) -> None:
    """Lightning (2.6) broadcasts before every step whether the first rank caught a SIGTERM. Here it never
    does: :class:`StopSignals` catches it, and the ranks exchange that every few steps."""
    loop = trainer.fit_loop.epoch_loop
    loop._broadcast_sigterm_tensor = _nothing


def _nothing() -> None:
    """What there is to do."""
