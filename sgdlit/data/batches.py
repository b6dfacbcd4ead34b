"""What each step of a run sees, as a pure function of the step; in plain torch, without Lightning.

:class:`Batches` is what one run sees. A :class:`Block` is some consecutive steps of one run or several, which
``sgdlit.algorithms`` takes in one call.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from sgdlit.foundations.errors import UserError

Batch = tuple[Tensor, Tensor]
ALIGNMENT = 64  # bytes: products of matrices round as their place in memory has it, in multiples of this


def aligned(part: Tensor) -> Tensor:
    """One of equal parts of a stack, copied where its place depends on which it is: a run whose steps are
    cut into calls differently would end with other bits."""
    return part.clone() if part.numel() * part.element_size() % ALIGNMENT else part


def begins_aligned(batch: Batch) -> bool:
    """Whether the next batch like this one in a stack begins where a batch that is made alone does."""
    return batch[0].numel() * batch[0].element_size() % ALIGNMENT == 0


class Batches(ABC):
    """What each step of a run sees: inputs and targets as a pure function of the step.

    Args:
        batch_size: examples in a step's global batch.
        steps: steps in one epoch.
        origin: the data module; batches of the same one are the same.
    """

    varies = False
    """Whether any step may see another number of examples than the next."""
    shifts = False
    """Whether the place of a step's examples in a stack depends on the step at which the stack begins."""

    def __init__(self, batch_size: int, steps: int, origin: object = None) -> None:
        self.batch_size, self.steps = batch_size, steps
        self.origin = self if origin is None else origin

    @abstractmethod
    def batch(self, step: int, part: slice) -> Batch:
        """The examples ``part`` of a step's global batch: two of ``[b, ...]``."""

    def size(self, step: int) -> int:
        """Number of examples in a step's global batch."""
        return self.batch_size

    def stack(self, first: int, count: int) -> Batch:
        """The global batches of some steps from ``first`` on, of equal size: two of ``[k, B, ...]``.

        k is at least 1 and at most ``count``, as suits the data: a page of a stream, what fits the cache.
        """
        inputs, targets = self.batch(first, slice(0, self.size(first)))
        return inputs.unsqueeze(0), targets.unsqueeze(0)

    @staticmethod
    def across(members: "Sequence[Batches]", step: int, ahead: bool = False) -> Batch:
        """The global batches that some runs see at one step: two of ``[K, B, ...]``.

        Args:
            members: what each run sees.
            step: the step.
            ahead: whether those of the steps after it will be asked for.
        """
        seen = [member.batch(step, slice(0, member.size(step))) for member in members]
        if len(seen) == 1:
            return seen[0][0].unsqueeze(0), seen[0][1].unsqueeze(0)
        inputs, targets = zip(*seen, strict=True)
        return torch.stack(inputs), torch.stack(targets)


class Block:
    """The batches of ``count`` consecutive steps from ``start`` on, of one run or of several.

    Nothing is made before it is asked for.

    Args:
        start: the first step, counted from 0.
        count: how many steps, 1 or more.
        members: what each run sees.

    Raises:
        UserError: a step below 0, or no steps.
    """

    def __init__(self, start: int, count: int, members: Sequence[Batches]) -> None:
        if start < 0 or count < 1:
            raise UserError(
                f"block: {count} steps from step {start} on; allowed: 1 or more, from step 0 on or later"
            )
        self.start, self.count, self.members = start, count, members

    def __len__(self) -> int:
        return self.count

    @property
    def first(self) -> "Block":
        """Its first step alone."""
        return Block(self.start, 1, self.members)

    @property
    def end(self) -> int:
        """Updates made after its last step."""
        return self.start + self.count

    def cut(self, steps: Iterable[int]) -> "Iterator[Block]":
        """The block in parts, each of which ends after so many updates, or with the block."""
        ends = sorted({step for step in steps if self.start < step < self.end} | {self.end})
        for start, end in zip([self.start, *ends], ends, strict=False):
            yield Block(start, end - start, self.members)

    def batch(self, k: int, members: slice) -> Batch:
        """What some members see at step ``start + k``: inputs and targets ``[K, B, ...]``."""
        chosen = self.members[members]
        distinct = {id(member.origin): member for member in chosen}
        inputs, targets = chosen[0].across(list(distinct.values()), self.start + k, self.count > 1)
        if len(distinct) == len(chosen):
            return inputs, targets
        if len(distinct) == 1:
            return inputs.expand(len(chosen), *inputs.shape[1:]), targets.expand(
                len(chosen), *targets.shape[1:]
            )
        places = list(distinct)
        which = torch.tensor([places.index(id(member.origin)) for member in chosen], device=inputs.device)
        return inputs.index_select(0, which), targets.index_select(0, which)

    def steps(self, members: slice) -> Iterator[Batch]:
        """What some members see at each step, one after another: see :meth:`batch`."""
        if len(self.members[members]) > 1:
            yield from (self.batch(k, members) for k in range(self.count))
            return
        shifts = self.members[members.start].shifts
        for inputs, targets in self.pieces(members.start):
            parts = (aligned(part) if shifts else part for part in inputs.split(1))
            yield from zip(parts, targets.split(1), strict=True)

    def pieces(self, member: int) -> Iterator[Batch]:
        """What one member sees, in pieces of consecutive steps: inputs and targets ``[k, B, ...]``."""
        step = self.start
        while step < self.end:
            inputs, targets = self.members[member].stack(step, self.end - step)
            yield inputs, targets
            step += len(inputs)
