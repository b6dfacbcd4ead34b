"""In which order are the examples of a shard visited?

An order is a recipe: for each epoch it names the examples of the shard, which are then cut into minibatches.
It holds no state, unless it is a :class:`LearnedOrder`. An :class:`Itinerary` joins an order with the
numbers of a run (examples, batch size, repeats, seed) and answers the one question of a training step: which
examples does step t see? The answer is a pure function of (seed, t), so it does not depend on ranks,
restarts or on how many steps a call takes.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

import torch
from torch import Tensor

from sgdlit.foundations.errors import UserError
from sgdlit.foundations.philox import Key, derive_key, integers, permutation

LastBatch = Literal["error", "short", "drop"]
Count = TypeVar("Count", int, Tensor)

_PAGE = 8192  # visits whose indices are made together, and at least one epoch


class Order(ABC):
    """The indices of the examples that an epoch visits, one after another.

    ``small`` holds the arguments of some small ones for a shard of at least four examples: all of them are
    tested.
    """

    small: ClassVar[tuple[dict[str, Any], ...]] = ({},)

    def length(self, examples: int) -> int:
        """Number of visits in one epoch over a shard of ``examples``."""
        return examples

    @abstractmethod
    def indices(self, epochs: Tensor, examples: int, key: Key) -> Tensor:
        """What some epochs, int64 ``[E]``, visit, before it is cut into minibatches.

        Returns:
            int64 ``[E, length(examples)]`` on the epochs' device.
        """

    @property
    def repeats_examples(self) -> bool:
        """Whether a minibatch may see the same example twice, as where they are drawn with replacement."""
        return False

    def position(self, epoch: Count, k: Count, batches: int) -> Count:
        """Which of the epoch's minibatches comes ``k``-th (0 ≤ k < batches)."""
        return k

    def origin(self, epoch: Count) -> Count:
        """A number that two epochs share if they have the same minibatches, down to the augmentation."""
        return epoch

    @property
    def description(self) -> str:
        """Equal for orders that visit the same examples, given the seed; kept in checkpoints."""
        return type(self).__name__


class LearnedOrder(Order):
    """An order that follows from the gradients that were seen, and so is no function of seed and step alone.

    It belongs to one run, holds a state that goes into the checkpoint, and knows the epoch in which the run
    is and no other.
    """

    small = ()

    @abstractmethod
    def learn(self, examples: Tensor, gradients: Tensor) -> None:
        """What a step saw.

        Args:
            examples: int64 ``[B]``, in the order in which they were named.
            gradients: of each, flat: ``[B, P]``.
        """

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """All that a resumed run needs: tensors by name."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""


class LabelledOrder(Order):
    """An order that looks at the labels of the examples: ``bind`` gives them before indices are asked for."""

    small = ()

    def __init__(self) -> None:
        self.labels: Tensor | None = None

    def bind(self, labels: Tensor) -> None:
        """The labels of all examples, ``[N]``."""
        self.labels = labels


class RandomReshuffling(Order):
    """A new permutation in every epoch: each example exactly once per epoch."""

    def indices(self, epochs: Tensor, examples: int, key: Key) -> Tensor:
        return permutation(key, examples, substream=epochs, device=epochs.device)


class SingleShuffle(Order):
    """One permutation, drawn once, used in every epoch."""

    def indices(self, epochs: Tensor, examples: int, key: Key) -> Tensor:
        return permutation(key, examples, device=epochs.device).expand(len(epochs), -1)


class WithReplacement(Order):
    """Independent draws from the shard; an epoch is as many draws as there are examples."""

    @property
    def repeats_examples(self) -> bool:
        return True

    def indices(self, epochs: Tensor, examples: int, key: Key) -> Tensor:
        index = torch.arange(examples, device=epochs.device)
        return integers(key, index, 1, examples, substream=epochs.unsqueeze(-1)).squeeze(-1)


class FixedList(Order):
    """The same given examples in every epoch.

    Args:
        indices: of the examples, from 0 on, or the path of a text file with one index per line.

    Raises:
        UserError: the list is empty, unreadable, or names an example that the shard does not have.
    """

    small = ({"indices": [3, 1, 1, 0]},)

    def __init__(self, indices: list[int] | str) -> None:
        self._indices = _read_indices(indices) if isinstance(indices, str) else list(indices)
        if not self._indices:
            raise UserError("data.order.indices: the list is empty; it must name at least one example")
        self._repeats = len(set(self._indices)) < len(self._indices)  # asked for at every step

    @property
    def description(self) -> str:
        text = " ".join(map(str, self._indices))
        return f"FixedList({hashlib.blake2b(text.encode(), digest_size=8).hexdigest()})"

    @property
    def repeats_examples(self) -> bool:
        return self._repeats

    def length(self, examples: int) -> int:
        return len(self._indices)

    def indices(self, epochs: Tensor, examples: int, key: Key) -> Tensor:
        outside = [i for i in self._indices if not 0 <= i < examples]
        if outside:
            raise UserError(
                f"data.order.indices: example {outside[0]} does not exist; allowed: 0 to {examples - 1}"
            )
        return torch.tensor(self._indices, device=epochs.device).expand(len(epochs), -1)


class ForwardThenReversed(Order):
    """Epochs in pairs: the minibatches of another order, then the same, augmentation included, in reverse.

    The pair follows the modified flow without averaging over orders (Smith et al. 2021, section 2).

    Args:
        forward: the other order; None for random reshuffling.
    """

    def __init__(self, forward: Order | None = None) -> None:
        self._forward = forward or RandomReshuffling()
        if isinstance(self._forward, LearnedOrder | LabelledOrder):
            raise UserError(
                f"data.order.forward: {type(self._forward).__name__} looks at more than the step; "
                f"allowed: an order "
                "that is a function of seed and step, such as RandomReshuffling"
            )

    @property
    def repeats_examples(self) -> bool:
        return self._forward.repeats_examples

    def length(self, examples: int) -> int:
        return self._forward.length(examples)

    def indices(self, epochs: Tensor, examples: int, key: Key) -> Tensor:
        return self._forward.indices(epochs // 2, examples, key)

    def origin(self, epoch: Count) -> Count:
        return epoch // 2

    @property
    def description(self) -> str:
        return f"ForwardThenReversed({self._forward.description})"

    def position(self, epoch: Count, k: Count, batches: int) -> Count:
        return k + epoch % 2 * (batches - 1 - 2 * k)


class Itinerary:
    """Which examples of a shard each step of a run sees.

    Each minibatch is visited ``repeats`` times in a row before the next one comes (n-step SGD, Smith et al.
    2021, section 4), so an epoch has ``batches * repeats`` steps.

    Args:
        order: the recipe.
        examples: number of examples N in the shard.
        batch_size: the step's global batch B, whatever the number of ranks.
        repeats: n, steps taken on each minibatch.
        last_batch: what happens to the N mod B examples left over in each epoch.
        seed: seed of the order.
        labels: those of all examples, for an order that looks at them when it is asked for indices.

    Raises:
        UserError: B is not in 1 … N, repeats < 1, or B does not divide N and ``last_batch`` is "error"; an
            order that cannot go with them.
    """

    varies = False
    """Whether any step may see another number of examples than the next."""

    def __init__(
        self,
        order: Order,
        examples: int,
        batch_size: int,
        repeats: int = 1,
        last_batch: LastBatch = "error",
        seed: int = 0,
        labels: Callable[[], Tensor] | None = None,
    ) -> None:
        length = order.length(examples)
        if not 1 <= batch_size <= length:
            raise UserError(
                f"data.batch_size: {batch_size} is not possible with {length} training examples; "
                f"allowed: 1 to {length}"
            )
        if repeats < 1:
            raise UserError(f"data.repeats: {repeats} is not possible; allowed: 1 or more")
        self._check_order(order, length, batch_size, last_batch)
        if length % batch_size and last_batch == "error":
            raise UserError(
                f"data.batch_size: {batch_size} does not divide the {length} training examples. Allowed: "
                "a divisor, or data.last_batch: short (a smaller last minibatch) or drop (leave the rest out)"
            )
        self.order, self.examples, self.batch_size, self.repeats = order, examples, batch_size, repeats
        self.batches = length // batch_size if last_batch == "drop" else -(-length // batch_size)
        self.smallest = length - (self.batches - 1) * batch_size if last_batch == "short" else batch_size
        self._key = derive_key(seed, "order")
        self._length, self._labels = length, labels
        self._per_page = 1 if isinstance(order, LearnedOrder) else max(1, _PAGE // length)
        self._held: tuple[tuple[int, Tensor], ...] = ()  # replaced as a whole, so that threads may share it

    def _check_order(self, order: Order, length: int, batch_size: int, last_batch: LastBatch) -> None:
        if isinstance(order, LearnedOrder) and last_batch == "drop" and length % batch_size:
            raise UserError(
                f"data.last_batch: drop would leave the same examples out of every epoch of "
                f"{type(order).__name__}; "
                "allowed: short, or a batch_size that divides the number of examples"
            )

    @property
    def steps_per_epoch(self) -> int:
        return self.batches * self.repeats

    def check(self) -> None:
        """Refuse an order that cannot visit these examples.

        Raises:
            UserError: naming why.
        """
        if not isinstance(self.order, LearnedOrder):
            self.indices(0)

    def learn(self, step: int, gradients: Tensor) -> None:
        """Tell an order that learns what a step saw: the gradients of its examples, ``[B, P]``.

        Of repeated steps on one minibatch only the first counts.
        """
        if isinstance(self.order, LearnedOrder) and step % self.repeats == 0:
            self.order.learn(self.indices(step), gradients)

    def size(self, step: int) -> int:
        """Number of examples that ``step`` sees, over all ranks."""
        _, position = self._place(step)
        return self.smallest if position == self.batches - 1 else self.batch_size

    def minibatch(self, step: int) -> int:
        """The number of the minibatch that ``step`` sees: equal numbers are augmented equally."""
        epoch, position = self._place(step)
        return self.order.origin(epoch) * self.batches + position

    def indices(self, step: int, device: torch.device | str = "cpu") -> Tensor:
        """Indices of the examples that ``step`` sees: int64 ``[B]``, fewer in a short last minibatch."""
        page = self._page_of(step)
        start = int(self._starts(step, page))
        return self._page_indices(page, device)[start : start + self.size(step)]

    def stack(self, first: int, count: int, device: torch.device | str = "cpu") -> Tensor:
        """What some steps from ``first`` on see, all of one size: indices int64 ``[k, B]``, 1 ≤ k ≤ count.

        k is smaller than ``count`` at the end of a page of epochs and where a short minibatch begins or ends.
        """
        page, size = self._page_of(first), self.size(first)
        end = min(first + count, (page + 1) * self._per_page * self.steps_per_epoch)
        if self.smallest != self.batch_size:
            end = next((step for step in range(first, end) if self.size(step) != size), end)
        starts = self._starts(torch.arange(first, end, device=device), page)
        return self._page_indices(page, device)[starts.unsqueeze(-1) + torch.arange(size, device=device)]

    def _page_of(self, step: int) -> int:
        return step // (self._per_page * self.steps_per_epoch)

    def _starts(self, step: Count, page: int) -> Count:
        """Where in its page the examples of a step start."""
        epoch, position = self._place(step)
        return (epoch - page * self._per_page) * self._length + position * self.batch_size

    def _page_indices(self, page: int, device: torch.device | str) -> Tensor:
        for held, indices in self._held:
            if held == page and indices.device == torch.device(device):
                return indices
        epochs = torch.arange(page * self._per_page, (page + 1) * self._per_page, device=device)
        if isinstance(self.order, LabelledOrder) and self.order.labels is None and self._labels is not None:
            self.order.bind(self._labels())
        indices = self.order.indices(epochs, self.examples, self._key).flatten()
        self._held = (*self._held[-1:], (page, indices))  # two, for the runs that share a block across both
        return indices

    def _place(self, step: Count) -> tuple[Count, Count]:
        """The epoch of a step, and which of its minibatches the step sees."""
        visit = step // self.repeats
        epoch, k = visit // self.batches, visit % self.batches
        return epoch, self.order.position(epoch, k, self.batches)


def _read_indices(path: str) -> list[int]:
    try:
        return [int(line) for line in Path(path).read_text().split()]
    except (OSError, ValueError) as error:
        raise UserError(f"data.order.indices: cannot read {path!r} as one index per line: {error}") from error
