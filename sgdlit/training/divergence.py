"""Divergence is a result: a run whose loss is not finite stops, and the step is recorded.

Losses are kept on the device and looked at together, so no step waits for the host.
"""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from sgdlit.training.step_end import end_training_here, step_is_complete, validation_is_due

_NEVER = 2**62


class DivergenceGuard(Callback):
    """Stops a run at the first loss that is NaN or infinite, and knows at which step that was.

    Works with any LightningModule whose ``training_step`` returns a loss. ``step`` is the number of updates
    made when the loss stopped being finite; None while all is well. The losses are looked at every
    ``trainer.log_every_n_steps`` steps, and before each validation and each checkpoint, together with the
    parameters: where these are not finite, neither is the next loss. An evaluation whose loss is not finite
    counts as well.
    """

    def __init__(self) -> None:
        self.step: int | None = None
        self._losses = torch.empty(0)
        self._first = self._count = 0
        self._limits: tuple[int, int | float] | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.step, self._limits = None, None
        self._losses = torch.zeros(max(1, trainer.log_every_n_steps), device=pl_module.device)
        self._first, self._count = trainer.global_step, 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        loss = outputs["loss"] if isinstance(outputs, dict) else outputs
        if loss is not None:
            self._losses[self._count] += loss.detach()  # over the micro-batches of a step
        if not step_is_complete(trainer):
            return
        self._count += 1
        if validation_is_due(trainer):
            self.look(trainer, parameters=True)
        elif self._count == len(self._losses):
            self.look(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The loss of an evaluation counts too: it is that of the parameters after this step."""
        known = trainer.callback_metrics.items()
        losses = [loss for name, loss in known if name.endswith("/loss") and not name.startswith("train/")]
        if trainer.state.fn == TrainerFn.FITTING and not all(bool(loss.isfinite()) for loss in losses):
            self._stop(trainer, trainer.global_step)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.look(trainer, parameters=True)
        if self._limits is not None:
            trainer.fit_loop.epoch_loop.max_steps, trainer.limit_val_batches = self._limits

    def look(self, trainer: Trainer, parameters: bool = False) -> None:
        """Examine the losses since the last look; the only place where the host waits for the device."""
        bad = ~torch.isfinite(self._losses[: self._count])
        first = self._first + int(bad.int().argmax()) if bool(bad.any()) else _NEVER
        if first == _NEVER and parameters and not _all_finite(trainer.lightning_module):
            first = trainer.global_step
        if trainer.world_size > 1:
            over_ranks = torch.tensor(first, device=self._losses.device)
            torch.distributed.all_reduce(over_ranks, op=torch.distributed.ReduceOp.MIN)
            first = int(over_ranks)
        if first != _NEVER:
            self._stop(trainer, first)
        self._losses.zero_()
        self._first, self._count = trainer.global_step, 0

    def _stop(self, trainer: Trainer, step: int) -> None:
        if self.step is None:
            self.step = step
            self._limits = (end_training_here(trainer), trainer.limit_val_batches)
            trainer.limit_val_batches = 0  # an evaluation of parameters that are not finite says nothing


def _all_finite(module: torch.nn.Module) -> bool:
    """Whether no parameter holds a NaN or an infinity."""
    parameters = [p.detach() for p in module.parameters() if p.is_floating_point() and p.numel()]
    largest = torch._foreach_norm(parameters, float("inf"))
    return not largest or bool(torch.stack([x.float() for x in largest]).isfinite().all())


def diverged(trainer: Trainer) -> bool:
    """Whether the loss or the parameters have stopped being finite by now."""
    guards = [callback for callback in trainer.callbacks if isinstance(callback, DivergenceGuard)]
    for guard in guards:
        guard.look(trainer, parameters=True)
    return any(guard.step is not None for guard in guards)
