"""Poisson sampling: each example is in a minibatch with a probability of its own, whatever the others do."""

import torch
from torch import Tensor

from sgdlit.data.orders import Itinerary, LastBatch, Order
from sgdlit.foundations.errors import UserError
from sgdlit.foundations.philox import Key, uniform

_LEAST = 32  # expected examples, of which none come with a probability of e⁻³²


class Poisson(Order):
    """Each example is in each minibatch with probability q = B/N, so that a minibatch has B examples on
    average.

    It is the sampling for which the privacy of noisy training is accounted (Mironov et al. 2019,
    1908.10530). An epoch is N/B steps. B is at least 32, so that no minibatch is empty.
    """

    small = ()

    def indices(self, epochs: Tensor, examples: int, key: Key) -> Tensor:
        raise RuntimeError("Poisson: what a step sees has no fixed length; PoissonItinerary names it")


def poisson_sample(
    key: Key, examples: int, rate: float, visit: int, device: torch.device | str = "cpu"
) -> Tensor:
    """Which examples a visit sees, each with probability ``rate``: int64, in ascending order."""
    each = uniform(key, torch.arange(examples, device=device), 1, substream=visit, dtype=torch.float64)
    return (each.squeeze(-1) < rate).nonzero().squeeze(-1)


class PoissonItinerary(Itinerary):
    """The visits of :class:`Poisson`; arguments are those of :class:`Itinerary`.

    Raises:
        UserError: B below 32, or more than half of the examples.
    """

    varies = True

    def _check_order(self, order: Order, length: int, batch_size: int, last_batch: LastBatch) -> None:
        if not _LEAST <= batch_size <= length:
            raise UserError(
                f"data.batch_size: {batch_size} examples on average; allowed with Poisson: {_LEAST}, "
                f"below which some "
                f"minibatches would be empty, to the {length} training examples"
            )

    def size(self, step: int) -> int:
        return len(self.indices(step))

    def minibatch(self, step: int) -> int:
        return step // self.repeats

    def indices(self, step: int, device: torch.device | str = "cpu") -> Tensor:
        visit = step // self.repeats
        for held, indices in self._held:
            if held == visit and indices.device == torch.device(device):
                return indices
        indices = poisson_sample(self._key, self.examples, self.batch_size / self.examples, visit, device)
        self._held = (*self._held[-1:], (visit, indices))
        return indices

    def stack(self, first: int, count: int, device: torch.device | str = "cpu") -> Tensor:
        return self.indices(first, device).unsqueeze(0)
