"""Which classes of a labelled set there are, and how often each occurs in the training set."""

from collections.abc import Sequence

import torch
from torch import Tensor

from sgdlit.foundations.errors import UserError


class ClassSelection:
    """Some classes of a labelled set, of which training examples may be thinned out.

    Args:
        classes: labels that are kept, in the order of their new numbers 0, 1, …; None keeps all as they are.
        weights: w_c in [0, 1], the part of each class's training examples that is kept, by new number; None
            keeps all.

    Raises:
        UserError: a class twice or below 0, fewer than two classes, a weight outside of [0, 1], none that is
            1, or another number of weights than of classes.
    """

    def __init__(self, classes: Sequence[int] | None, weights: Sequence[float] | None) -> None:
        self.classes = None if classes is None else list(classes)
        self.weights = None if weights is None else list(weights)
        if self.classes is not None:
            bad = len(set(self.classes)) < len(self.classes) or len(self.classes) < 2 or min(self.classes) < 0
            if bad:
                raise UserError(
                    f"data.classes: {self.classes} is not possible; allowed: two labels or more, each once"
                )
        if self.weights is not None:
            if not all(0 <= weight <= 1 for weight in self.weights) or max(self.weights, default=0) < 1:
                raise UserError(
                    f"data.class_weights: {self.weights} is not possible; allowed: numbers from 0 to 1, the "
                    "largest of them 1"
                )
            if self.classes is not None and len(self.weights) != len(self.classes):
                raise UserError(
                    f"data.class_weights: {len(self.weights)} for {len(self.classes)} classes; allowed: one "
                    "for each"
                )

    def check(self, count: int) -> None:
        """Refuse what does not go with the number of classes that a set has.

        Raises:
            UserError: naming the key, its value and what is allowed.
        """
        missing = next((c for c in self.classes or () if c >= count), None)
        if missing is not None:
            raise UserError(f"data.classes: there is no class {missing}; allowed: 0 to {count - 1}")
        if self.classes is None and self.weights is not None and len(self.weights) != count:
            raise UserError(
                f"data.class_weights: {len(self.weights)} for {count} classes; allowed: one for each"
            )

    def relabelled(self, labels: Tensor) -> Tensor:
        """New numbers int64 ``[n]`` from labels int64 ``[n]``; −1 for a class that is left out."""
        if self.classes is None:
            return labels
        numbers = torch.full((max(int(labels.max()) if len(labels) else 0, *self.classes) + 1,), -1)
        numbers[self.classes] = torch.arange(len(self.classes))
        return numbers.to(labels.device)[labels]

    def thinned(self, labels: Tensor) -> Tensor:
        """Which training examples are kept of those whose new numbers are given in order: bool ``[n]``.

        Of the first r of a class ⌊w_c·r⌋ are kept, so that every beginning has the frequencies that are
        asked for, to within one example.
        """
        kept = labels >= 0
        if self.weights is None:
            return kept
        weights = torch.tensor(self.weights, dtype=torch.float64, device=labels.device)
        rank = torch.zeros_like(labels)
        for c in range(len(weights)):
            own = labels == c
            rank[own] = torch.arange(1, int(own.sum()) + 1, device=labels.device)
        weight = weights[labels.clamp_min(0)]
        tiny = 1e-9  # 0.1 · 10 is 1, whatever binary fractions make of it
        return kept & ((weight * rank + tiny).floor() > (weight * (rank - 1) + tiny).floor())

    @property
    def description(self) -> dict[str, object]:
        """In plain types; empty where nothing is selected."""
        own = {"classes": self.classes, "class_weights": self.weights}
        return {name: value for name, value in own.items() if value is not None}
