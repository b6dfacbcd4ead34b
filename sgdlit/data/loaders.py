"""What Lightning iterates over: the batches of consecutive steps, made on the training device.

No loader holds a state. A training loader reads the trainer's ``global_step`` once, when its iterator is
made, and goes on from there: that is the whole of resuming. Its length is that of a full epoch, so
Lightning's own counters stay right.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from lightning.pytorch import Trainer

from sgdlit.data.batches import Batch, Batches, Block
from sgdlit.foundations.errors import UserError

CHECKSUMS = "checksums of the files"
"""What data from files says of them in a checkpoint."""


class Clock(Protocol):
    """What a loader needs of the trainer."""

    global_step: int
    accumulate_grad_batches: int
    world_size: int
    global_rank: int


class StepLoader:
    """The batches that this rank sees in consecutive steps.

    A step's global batch is cut into one contiguous slice per accumulated micro-batch, and each of these
    into one per rank: what a step sees does not depend on how it is shared out.

    Args:
        batches: what each step sees.
        clock: the trainer.
    """

    def __init__(self, batches: Batches, clock: Clock) -> None:
        self.batches, self.clock = batches, clock

    def __len__(self) -> int:
        return self.batches.steps * self.clock.accumulate_grad_batches

    def __iter__(self) -> Iterator[Batch]:
        # Not a generator: the position must be read now, before anything is prefetched.
        # As many steps as an epoch has, from wherever the clock stands: Lightning ends its own epochs by
        # counting, and may make them shorter (limit_train_batches) than those of the data.
        start = self.clock.global_step
        return self._shares(start, start + self.batches.steps)

    def _shares(self, start: int, end: int) -> Iterator[Batch]:
        micro, ranks, rank = self.clock.accumulate_grad_batches, self.clock.world_size, self.clock.global_rank
        for step in range(start, end):
            share = self.batches.size(step) // (micro * ranks)
            for k in range(micro):
                first = (k * ranks + rank) * share
                yield self.batches.batch(step, slice(first, first + share))


class BlockLoader:
    """The steps of a run in blocks, each as long as ``length`` says when the block is asked for.

    Args:
        members: what each of the runs sees; one for a single run.
        clock: the trainer.
        length: step -> how many steps to take from there in one call, at least 1.
    """

    def __init__(self, members: Sequence[Batches], clock: Clock, length: Callable[[int], int]) -> None:
        self.members, self.clock, self.length = members, clock, length

    def __len__(self) -> int:
        return max(member.steps for member in self.members)

    def __iter__(self) -> Iterator[Block]:
        start = self.clock.global_step
        return self._blocks(start, start + len(self))

    def _blocks(self, start: int, end: int) -> Iterator[Block]:
        while start < end:
            block = Block(start, min(self.length(start), end - start), self.members)
            yield block
            start += len(block)


class EvaluationLoader:
    """Every example of a set exactly once, over all ranks, in batches of at most ``batch_size`` per rank."""

    def __init__(self, batch: Callable[[slice], Batch], examples: int, batch_size: int, clock: Clock) -> None:
        self.batch, self.batch_size = batch, batch_size
        ranks, rank = clock.world_size, clock.global_rank
        self.first, self.last = examples * rank // ranks, examples * (rank + 1) // ranks

    def __len__(self) -> int:
        return -(-(self.last - self.first) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        for start in range(self.first, self.last, self.batch_size):
            yield self.batch(slice(start, min(start + self.batch_size, self.last)))


def check_loaders(
    step_sizes: list[int], steps_per_epoch: int, evaluation_sizes: dict[str, int], trainer: Trainer
) -> None:
    """Refuse data that the processes of a run cannot share, or that it would never evaluate.

    Args:
        step_sizes: how many examples a step can see: B, then those of a short last minibatch, if any.
        steps_per_epoch: length of the training loader's epoch.
        evaluation_sizes: examples of each evaluation set.
        trainer: the trainer of the run.

    Raises:
        UserError: naming the key, its value and what is allowed.
    """
    micro, ranks = trainer.accumulate_grad_batches, trainer.world_size
    names = ["data.batch_size", "the last minibatch of an epoch (data.last_batch: short)"]
    for name, size in zip(names, step_sizes, strict=False):
        if size % (micro * ranks):
            raise UserError(
                f"{name}: {size} examples cannot be shared equally by {ranks} process(es) with "
                f"trainer.accumulate_grad_batches: {micro}; allowed: multiples of {micro * ranks}"
            )
    for name, size in evaluation_sizes.items():
        if size < ranks:
            raise UserError(
                f"data: {size} {name} examples cannot be shared by {ranks} processes; "
                "allowed: at least one for each"
            )
    interval, batches = trainer.val_check_interval, steps_per_epoch * micro
    if trainer.check_val_every_n_epoch is not None and isinstance(interval, int) and interval > batches:
        raise UserError(
            f"trainer.val_check_interval: {interval} is more than the {batches} batches of an epoch; "
            f"allowed: 1 to {batches}, or trainer.check_val_every_n_epoch: null, which counts over epochs"
        )


def check_limits(steps_per_epoch: int, evaluation_batches: dict[str, int], trainer: Trainer) -> None:
    """Refuse a part of the batches that is less than one, which Lightning notices when the run has begun.

    Args:
        steps_per_epoch: length of the training loader's epoch.
        evaluation_batches: of each evaluation set, on the process that has the fewest.
        trainer: the trainer of the run.

    Raises:
        UserError: naming the key, its value and what is allowed.
    """
    batches = steps_per_epoch * trainer.accumulate_grad_batches
    parts = [("train", trainer.limit_train_batches, batches)]
    parts += [("val", trainer.limit_val_batches, count) for count in evaluation_batches.values()]
    for name, limit, count in parts:
        if isinstance(limit, float) and limit > 0 and int(limit * count) == 0:
            raise UserError(
                f"trainer.limit_{name}_batches: {limit} of {count} batches is less than one; allowed: "
                f"{1 / count:.3g} to 1.0, or a number of batches"
            )


def check_same_data(here: dict[str, Any], there: dict[str, Any]) -> None:
    """Refuse to go on from a checkpoint that was made with other data.

    Args:
        here: what decides the data of this run, in plain types.
        there: the same, as the checkpoint has it.

    Raises:
        UserError: naming what differs.
    """
    kept = {CHECKSUMS: here.get(CHECKSUMS)} | there  # earlier versions kept none
    changed = [f"{k}: {kept.get(k)!r} there, {here[k]!r} here" for k in here if here[k] != kept.get(k)]
    if changed:
        raise UserError(
            f"ckpt_path: the checkpoint was made with other data and cannot be resumed: {'; '.join(changed)}"
        )
