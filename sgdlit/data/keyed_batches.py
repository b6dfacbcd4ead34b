"""Minibatches that are gathered, augmented and prepared where they are needed, as a function of the step."""

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from sgdlit.data.augmentation import CropAndFlip
from sgdlit.data.batches import Batch, Batches
from sgdlit.data.orders import Itinerary
from sgdlit.data.shards import Shard, Subset


class Source(Protocol):
    """What batches need of a data module."""

    batch_size: int

    @property
    def steps_per_epoch(self) -> int: ...

    def augmentation(self) -> CropAndFlip | None: ...

    def prepare(self, inputs: Tensor) -> Tensor: ...

    def at_a_time(self, device: torch.device) -> int: ...


class KeyedBatches(Batches):
    """Batches whose inputs are augmented, where the data says so, and prepared for the network.

    Args:
        data: whose examples are seen.
        device: where batches are made.
    """

    def __init__(self, data: Source, device: torch.device) -> None:
        super().__init__(data.batch_size, data.steps_per_epoch, data)
        self.data, self.device, self.augmentation = data, device, data.augmentation()

    @abstractmethod
    def minibatch(self, step: int) -> int:
        """The number of the minibatch that a step sees: equal numbers are augmented equally."""

    def finish(self, inputs: Tensor, seen: Iterable[tuple["KeyedBatches", int]], part: slice) -> Tensor:
        """From what is stored to the network's input.

        Args:
            inputs: of the examples ``part`` of some minibatches, one after another.
            seen: whose minibatches they are, and at which step.
            part: of each minibatch.
        """
        inputs = inputs.to(self.device)
        if self.augmentation is not None:
            starts = [batches.line_starts(step, inputs.shape[1:])[part] for batches, step in seen]
            inputs = self.augmentation(inputs, torch.cat(starts))
        return self.data.prepare(inputs)

    def line_starts(self, step: int, shape: torch.Size) -> Tensor:
        """Where the lines of the augmented images of a step's minibatch start, see :class:`CropAndFlip`."""
        assert self.augmentation is not None, "nothing is augmented"
        return self.augmentation.line_starts(self.minibatch(step), shape, self.device)


class ShardBatches(KeyedBatches):
    """The minibatches of a finite set, visited in an order.

    Args:
        data: whose training set it is.
        examples: of the training set.
        itinerary: of the visits.
        device: where batches are made.
    """

    shifts = True

    def __init__(
        self, data: Source, examples: Shard | Subset, itinerary: Itinerary, device: torch.device
    ) -> None:
        super().__init__(data, device)
        self.examples, self.itinerary, self.varies = examples, itinerary, itinerary.varies
        self._most = max(1, data.at_a_time(device) // data.batch_size)

    def size(self, step: int) -> int:
        return self.itinerary.size(step)

    def minibatch(self, step: int) -> int:
        return self.itinerary.minibatch(step)

    def batch(self, step: int, part: slice) -> Batch:
        indices = self.itinerary.indices(step, self.examples.device)[part]
        return self._take(indices, [(self, step)], part)

    def stack(self, first: int, count: int) -> Batch:
        indices = self.itinerary.stack(first, min(count, self._most), self.examples.device)
        seen = [(self, step) for step in range(first, first + len(indices))]
        inputs, targets = self._take(indices.flatten(), seen, slice(0, self.size(first)))
        return inputs.unflatten(0, indices.shape), targets.unflatten(0, indices.shape)

    def _take(self, indices: Tensor, seen: Iterable[tuple[KeyedBatches, int]], part: slice) -> Batch:
        inputs, targets = self.examples.take(indices)
        return self.finish(inputs, seen, part), targets.to(self.device)

    @staticmethod
    def across(members: "Sequence[Batches]", step: int, ahead: bool = False) -> Batch:
        shards = [member for member in members if isinstance(member, ShardBatches)]
        gathered_at_once = 1 < len(members) == len(shards)
        if not gathered_at_once or not all(shards[0].alike(other, step) for other in shards):
            return Batches.across(members, step)
        first, size = shards[0], shards[0].size(step)
        indices = torch.cat([member.itinerary.indices(step, first.examples.device) for member in shards])
        inputs, targets = first._take(indices, [(member, step) for member in shards], slice(0, size))
        return inputs.unflatten(0, (len(shards), size)), targets.unflatten(0, (len(shards), size))

    def alike(self, other: "ShardBatches", step: int) -> bool:
        """Whether a step of both can be gathered and prepared in one go."""
        return (
            other.examples is self.examples
            and other.size(step) == self.size(step)
            and (other.augmentation is None) == (self.augmentation is None)
        )
