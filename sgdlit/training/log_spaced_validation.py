"""Evaluations at log-spaced steps: as many between 100 and 200 updates as between 10 000 and 20 000."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from sgdlit.foundations.errors import UserError


def log_spaced_steps(first: int, last: int, per_doubling: int) -> list[int]:
    """Whole numbers close to first · 2^(k/per_doubling), each once, up to ``last``."""
    found: list[int] = []
    k = 0
    while (step := round(first * 2 ** (k / per_doubling))) <= last:
        if not found or step > found[-1]:
            found.append(step)
        k += 1
    return found


def next_log_spaced(step: int, first: int, per_doubling: int) -> int:
    """The first of the log-spaced steps after ``step``."""
    beyond = 2 * max(step, first) + 1
    return next(s for s in log_spaced_steps(first, beyond, per_doubling) if s > step)


class LogSpacedValidation(Callback):
    """Validates at log-spaced steps, in place of ``trainer.val_check_interval``.

    Args:
        first: the first step with an evaluation.
        per_doubling: evaluations until the number of steps has doubled.

    Raises:
        UserError: an argument below 1; a trainer that counts evaluations by epochs.
    """

    def __init__(self, first: int = 10, per_doubling: int = 2) -> None:
        for name, value in {"first": first, "per_doubling": per_doubling}.items():
            if value < 1:
                raise UserError(f"LogSpacedValidation.{name}: {value} is not possible; allowed: 1 or more")
        self.first, self.per_doubling = first, per_doubling

    def check(self, trainer: Trainer, module: LightningModule, datamodule: Any) -> None:
        """Refuse what :meth:`setup` would refuse, before the run leaves a trace."""
        self.setup(trainer, module, "fit")

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if trainer.check_val_every_n_epoch is not None or trainer.accumulate_grad_batches > 1:
            raise UserError(
                "LogSpacedValidation: needs trainer.check_val_every_n_epoch: null, so that evaluations are "
                "counted over epochs, and trainer.accumulate_grad_batches: 1"
            )

    def next_due(self, step: int) -> int:
        """The first step after ``step`` with an evaluation."""
        return next_log_spaced(step, self.first, self.per_doubling)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._aim(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._aim(trainer)

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        # Of a run that was resumed, or whose evaluation at this step was left out.
        if trainer.val_check_batch <= trainer.global_step:
            self._aim(trainer)

    def _aim(self, trainer: Trainer) -> None:
        """Lightning validates where the number of batches is a multiple of this: first at the step itself."""
        trainer.val_check_batch = self.next_due(trainer.global_step)
