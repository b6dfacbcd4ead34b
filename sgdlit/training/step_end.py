"""The ends of steps and epochs, as Lightning's fit loop has them: where sgdlit looks inside that loop.

``on_train_batch_end`` is called once per micro-batch, before Lightning decides whether to validate.
"""

from lightning.pytorch import Trainer


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
    """Count the new epoch of a run that is resumed from the last step of the one before.

    Lightning (2.6) finishes the old epoch's counters then, but takes the run for one in mid-epoch and does
    not count the new epoch as begun; resumed again within it, it would begin that epoch once more. To be
    called in ``on_train_start``.
    """
    loop = trainer.fit_loop
    if (
        loop.restarted_mid_epoch
        and loop.epoch_progress.current.processed == loop.epoch_progress.current.started
    ):
        loop.reset_restart_stage()
