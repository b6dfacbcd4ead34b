"""The end of a step, as Lightning's fit loop has it: the few places where sgdlit looks inside that loop.

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
