"""Checkpoints that are whole or absent, written at step boundaries, and stopping on a signal.

A signal only sets a flag. The flag is read at the end of a step, when parameters, optimizer, schedules and
counters agree, so a resumed run ends bitwise where the uninterrupted one ends. A validation that is due at
the same step is finished first, because Lightning would leave it out after a resume.
"""

import os
import signal
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.trainer.states import TrainerFn

from sgdlit.console import say
from sgdlit.errors import UserError
from sgdlit.training.divergence import diverged
from sgdlit.training.metrics_file import MetricsFile

_RANKS_AGREE_EVERY = 16  # steps between two exchanges of the flag over ranks


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write beside the target, flush to the disk, then rename: a crash or a full disk leaves the old file."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with temporary.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except (OSError, RuntimeError) as error:
            temporary.unlink(missing_ok=True)
            raise UserError(
                f"{path}: checkpoint not written ({error}); earlier checkpoints are intact"
            ) from error


class StopSignals:
    """Remembers the first SIGINT, SIGTERM or SIGUSR1; a second SIGINT interrupts at once."""

    caught = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)

    def __init__(self) -> None:
        self.received = 0
        self._before: dict[int, Any] = {}

    def listen(self) -> None:
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
        self.received = number


class Checkpoints(Callback):
    """Keeps ``checkpoints/resume.ckpt`` and ``checkpoints/best.ckpt`` in the folder of the run.

    ``resume.ckpt`` is the state after the latest multiple of ``every_n_steps``, at the end, or where a signal
    stopped the run; ``best.ckpt`` is the state with the highest validation accuracy.

    Args:
        every_n_steps: steps between two writes of ``resume.ckpt``.
    """

    def __init__(self, every_n_steps: int = 1000) -> None:
        if every_n_steps < 1:
            raise UserError(f"checkpoints.every_n_steps: {every_n_steps}; allowed: 1 or more")
        self.every_n_steps = every_n_steps
        self.folder: Path | None = None
        self.signals = StopSignals()
        self.stopped_by = 0
        self._due = False
        self._last_step = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Lightning has installed its own handlers by now, and restores what was there before at the end.
        self.signals.listen()
        self._last_step = trainer.estimated_stepping_batches

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        loop = trainer.fit_loop.epoch_loop
        if loop._should_accumulate():
            return
        self._hear_signals(trainer)
        last = trainer.global_step >= self._last_step or trainer.should_stop
        self._due = bool(self.stopped_by) or last or trainer.global_step % self.every_n_steps == 0
        if last and not self.stopped_by:
            trainer.should_stop = True  # Lightning then validates once more, at the end
        if self._due and not loop._should_check_val_fx(trainer.fit_loop._data_fetcher):
            self._save_resume(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking:
            return
        if getattr(pl_module, "improved", False) and not diverged(trainer):
            trainer.save_checkpoint(self._path("best.ckpt"))
        if self._due:
            self._save_resume(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.signals.forget()

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        tables = [logger for logger in trainer.loggers if isinstance(logger, MetricsFile)]
        checkpoint["sgdlit_rows"] = tables[0].rows if tables else 0

    def _save_resume(self, trainer: Trainer) -> None:
        self._due = False
        if not diverged(trainer):
            trainer.save_checkpoint(self._path("resume.ckpt"))
        if self.stopped_by:
            trainer.should_stop = True
            trainer.limit_val_batches = (
                0  # no validation after the checkpoint: it would be lost to the resume
            )

    def _hear_signals(self, trainer: Trainer) -> None:
        """Note a signal once all ranks know of it, so that they stop at the same step."""
        if trainer.world_size == 1:
            self.stopped_by = self.signals.received
        elif trainer.global_step % _RANKS_AGREE_EVERY == 0:
            number = torch.tensor(self.signals.received, device=trainer.strategy.root_device)
            torch.distributed.all_reduce(number, op=torch.distributed.ReduceOp.MAX)
            self.stopped_by = int(number)

    def _path(self, name: str) -> Path:
        assert self.folder is not None, "the folder of the run is set before training starts"
        return self.folder / "checkpoints" / name
