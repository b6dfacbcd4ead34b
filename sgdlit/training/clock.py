"""The one place where sgdlit looks inside Lightning's fit loop: ends of steps and epochs, and its clock.

``on_train_batch_end`` is called once per micro-batch, before Lightning decides whether to validate. Written
for Lightning 2.6; a test pins what is used of it.
"""

import math
from typing import Any

from lightning.pytorch import Trainer


def advance_clock(trainer: Trainer, steps: int, ends_call: bool = True) -> None:
    """Count steps of a call as Lightning counts batches and steps; the last batch of a call it counts itself.

    To be called in ``training_step`` under manual optimization, where Lightning counts no step by itself.
    Everything in the Trainer that counts batches or steps then counts updates of the parameters.
    """
    loop, batches = trainer.fit_loop.epoch_loop, steps - ends_call
    last = loop.batch_progress.current.ready + batches >= trainer.num_training_batches
    loop.batch_progress.increment_by(batches, is_last_batch=last)
    loop._batches_that_stepped += batches
    for progress in (loop.manual_optimization.optim_step_progress, _automatic_steps(loop)):
        progress.increment_by(steps)


def _automatic_steps(loop: Any) -> Any:
    return loop.automatic_optimization.optim_progress.optimizer.step


def share_clock(checkpoint: dict[str, Any]) -> None:
    """Let a run that takes many steps per call resume one that took one per call, and the other way round.

    Lightning keeps one count of steps for manual and one for automatic optimization, and reads the one that
    the module uses. To be called in ``on_load_checkpoint``.
    """
    loops = checkpoint["loops"]["fit_loop"]
    for part in ("total", "current"):
        manual = loops["epoch_loop.manual_optimization.optim_step_progress"][part]
        manual["ready"] = manual["completed"] = checkpoint["global_step"]
    automatic = loops["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]["step"]["total"]
    automatic["ready"] = automatic["completed"] = checkpoint["global_step"]


def steps_to_lightnings_next(trainer: Trainer) -> int:
    """Steps until Lightning itself has something to do: validation, the end of an epoch or of the run.

    To be called between steps, without accumulation, so that a batch is a step.
    """
    loop = trainer.fit_loop.epoch_loop
    in_epoch, in_run = loop.batch_progress.current.ready, loop.batch_progress.total.ready
    left = [trainer.num_training_batches - in_epoch]
    if trainer.max_steps >= 0:
        left.append(trainer.max_steps - trainer.global_step)
    interval = trainer.val_check_batch
    if interval is not None and trainer.enable_validation and interval < math.inf:
        over_epochs = trainer.check_val_every_n_epoch is None
        left.append(interval - (in_run if over_epochs else in_epoch) % interval)
    return max(1, int(min(left)))


def planned_steps(trainer: Trainer, steps_per_epoch: int) -> int | float:
    """Steps of a whole run, before it begins; infinite where time alone ends it.

    Args:
        trainer: of the run.
        steps_per_epoch: of the data, before ``trainer.limit_train_batches``.
    """
    most = math.inf if trainer.max_steps == -1 else trainer.max_steps
    if trainer.max_epochs is None or trainer.max_epochs == -1:
        return most
    batches, limit = steps_per_epoch * trainer.accumulate_grad_batches, trainer.limit_train_batches
    batches = min(batches, limit) if isinstance(limit, int) else int(batches * limit)
    return min(most, math.ceil(batches / trainer.accumulate_grad_batches) * max(trainer.max_epochs, 1))


def step_is_complete(trainer: Trainer) -> bool:
    """Whether the parameters were updated at this batch (not while gradients are still accumulated)."""
    return not trainer.fit_loop.epoch_loop._should_accumulate()


def validation_is_due(trainer: Trainer) -> bool:
    """Whether Lightning validates after this batch."""
    return trainer.fit_loop.epoch_loop._should_check_val_fx(trainer.fit_loop._data_fetcher)


def end_training_here(trainer: Trainer) -> int:
    """Take no further step; a validation that is due still runs, and no other does.

    ``trainer.should_stop`` would add a validation, and would wait for ``min_steps`` and ``min_epochs``.

    Returns:
        ``max_steps`` as it was, to be put back after training.
    """
    before = trainer.fit_loop.epoch_loop.max_steps
    trainer.fit_loop.epoch_loop.max_steps = trainer.global_step
    return before


def repair_resumed_epoch(trainer: Trainer) -> None:
    """Begin a new epoch where a run is resumed from the last step of one: to be called in ``on_train_start``.

    Lightning (2.6) finishes the old epoch's counters then, but takes the run for one in mid-epoch and does
    not count the new epoch as begun; resumed again within it, it would begin that epoch once more. And from a
    checkpoint of the validation that ended a run, it takes a step more before it sees that the epoch is over.
    """
    loop = trainer.fit_loop
    if (
        loop.restarted_mid_epoch
        and loop.epoch_progress.current.processed == loop.epoch_progress.current.started
    ):
        loop.reset_restart_stage()
    epoch = loop.epoch_loop
    ended = epoch.batch_progress.current.completed >= trainer.num_training_batches
    if loop.restarted_mid_epoch and epoch.restarted_on_last and ended:
        loop.epoch_progress.increment_processed()
        loop.epoch_progress.increment_completed()
        loop.reset_restart_stage()
        epoch._batches_that_stepped += 1
        epoch.reset_restart_stage()
        epoch.restarting = False
