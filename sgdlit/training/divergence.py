"""Divergence is a result: a run whose loss is not finite stops, and the step is recorded.

Losses are kept on the device and looked at together, so no step waits for the host.
"""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

_NEVER = 2**62


class DivergenceGuard(Callback):
    """Stops a run at the first loss that is NaN or infinite, and knows at which step that was.

    Works with any LightningModule whose ``training_step`` returns a loss. ``step`` is the number of updates
    made when the loss stopped being finite; None while all is well.
    """

    def __init__(self) -> None:
        self.step: int | None = None
        self._losses = torch.empty(0)
        self._first = self._count = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._losses = torch.zeros(max(1, trainer.log_every_n_steps), device=pl_module.device)
        self._first, self._count = trainer.global_step, 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.fit_loop.epoch_loop._should_accumulate():
            return
        loss = outputs["loss"] if isinstance(outputs, dict) else outputs
        if loss is None:
            return
        self._losses[self._count] = loss.detach()
        self._count += 1
        if self._count == len(self._losses):
            self.look(trainer)

    def look(self, trainer: Trainer) -> None:
        """Examine the losses since the last look; the only place where the host waits for the device."""
        bad = ~torch.isfinite(self._losses[: self._count])
        first = self._first + int(bad.int().argmax()) if bool(bad.any()) else _NEVER
        if trainer.world_size > 1:
            over_ranks = torch.tensor(first, device=self._losses.device)
            torch.distributed.all_reduce(over_ranks, op=torch.distributed.ReduceOp.MIN)
            first = int(over_ranks)
        if first != _NEVER and self.step is None:
            self.step = first
            trainer.should_stop = True
            trainer.limit_val_batches = 0
        self._first, self._count = trainer.global_step, 0


def diverged(trainer: Trainer) -> bool:
    """Whether the run's loss has stopped being finite by now."""
    guards = [callback for callback in trainer.callbacks if isinstance(callback, DivergenceGuard)]
    for guard in guards:
        guard.look(trainer)
    return any(guard.step is not None for guard in guards)
