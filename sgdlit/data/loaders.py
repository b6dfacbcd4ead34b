"""What Lightning iterates over: the batches of consecutive steps, made on the training device.

Neither loader holds a state. A training loader reads the trainer's ``global_step`` once, when its iterator
is made, and goes on from there: that is the whole of resuming. Its length is that of a full epoch, so
Lightning's own counters stay right.
"""

from collections.abc import Callable, Iterator
from typing import Protocol

from torch import Tensor

from sgdlit.errors import UserError

Batch = tuple[Tensor, Tensor]


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
        batch: (step, part) -> the examples ``part`` of the step's global batch.
        size: step -> number of examples in the step's global batch.
        steps: steps in one epoch.
        clock: the trainer.
    """

    def __init__(
        self, batch: Callable[[int, slice], Batch], size: Callable[[int], int], steps: int, clock: Clock
    ) -> None:
        self.batch, self.size, self.steps, self.clock = batch, size, steps, clock

    def __len__(self) -> int:
        return self.steps * self.clock.accumulate_grad_batches

    def __iter__(self) -> Iterator[Batch]:
        # Not a generator: the position must be read now, before anything is prefetched.
        # As many steps as an epoch has, from wherever the clock stands: Lightning ends its own epochs by
        # counting, and may make them shorter (limit_train_batches) than those of the data.
        start = self.clock.global_step
        return self._batches(start, start + self.steps)

    def _batches(self, start: int, end: int) -> Iterator[Batch]:
        micro, ranks, rank = self.clock.accumulate_grad_batches, self.clock.world_size, self.clock.global_rank
        for step in range(start, end):
            share = self.size(step) // (micro * ranks)
            for k in range(micro):
                first = (k * ranks + rank) * share
                yield self.batch(step, slice(first, first + share))


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


def check_shares(batch_sizes: dict[str, int], clock: Clock) -> None:
    """Refuse a global batch that its ranks and micro-batches cannot share equally.

    Raises:
        UserError: naming the batch, its size and what it must be divisible by.
    """
    parts = clock.accumulate_grad_batches * clock.world_size
    for name, size in batch_sizes.items():
        if size % parts:
            raise UserError(
                f"{name}: {size} examples cannot be shared equally by {clock.world_size} process(es) and "
                f"{clock.accumulate_grad_batches} accumulated batch(es); allowed: multiples of {parts}"
            )
