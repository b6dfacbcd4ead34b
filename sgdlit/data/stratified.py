"""Minibatches that see every class equally often."""

import torch
from torch import Tensor

from sgdlit.data.orders import LabelledOrder
from sgdlit.foundations.errors import UserError
from sgdlit.foundations.philox import Key, words


def stratified(labels: Tensor, epochs: Tensor, key: Key) -> Tensor:
    """Visit j of an epoch draws one example of class j mod K, with replacement; int64 ``[E, N]``.

    Args:
        labels: of all examples, ``[N]``; K is the number of those that occur.
        epochs: int64 ``[E]``.
        key: of the draws.
    """
    examples, visits = len(labels), torch.arange(len(labels), device=epochs.device)
    labels = labels.to(epochs.device)
    classes, counts = labels.unique(return_counts=True)
    by_class = torch.argsort(labels, stable=True)
    first, own = counts.cumsum(0) - counts, visits % len(classes)
    drawn = words(key, visits, 1, substream=epochs.unsqueeze(-1)).squeeze(-1)
    within = (drawn * counts[own]) >> 32
    return by_class[(first[own] + within).reshape(len(epochs), examples)]


class Stratified(LabelledOrder):
    """Every class equally often, whatever its share: classes take turns, and each visit draws one of its
    examples.

    Rare classes are seen more often than they occur (oversampling). A minibatch has equal numbers of each
    class where their number divides ``batch_size`` and the number of examples.
    """

    def indices(self, epochs: Tensor, examples: int, key: Key) -> Tensor:
        assert self.labels is not None, "an itinerary gives the labels before it asks"
        if self.labels.is_floating_point() and not bool((self.labels.abs() == 1).all()):
            raise UserError("data.order: Stratified needs classes; the targets here are numbers")
        return stratified(self.labels, epochs, key)
