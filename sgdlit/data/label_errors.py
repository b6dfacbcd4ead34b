"""Wrong labels, as a function of (seed, example); in the training set alone, unless others are asked for."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor

from sgdlit.foundations.errors import UserError
from sgdlit.foundations.philox import Key, derive_key, integers, uniform


class LabelErrors(ABC):
    """A share of the labels, chosen example by example, is replaced by another class.

    Args:
        share: probability that a label is wrong.
        classes: how many there are, from 0 on.
        seed: of which labels are wrong; None takes that of the data.
        everywhere: whether validation and test sets have wrong labels as well; theirs are right otherwise.

    Raises:
        UserError: a share not in [0, 1], fewer than two classes; labels that are none of them.
    """

    small: ClassVar[tuple[dict[str, Any], ...]] = ({"share": 0.4, "classes": 10},)

    def __init__(
        self, share: float, classes: int = 10, seed: int | None = None, everywhere: bool = False
    ) -> None:
        if not 0 <= share <= 1:
            raise UserError(f"data.label_errors.share: {share} is not possible; allowed: 0 to 1")
        if classes < 2:
            raise UserError(f"data.label_errors.classes: {classes} is not possible; allowed: 2 or more")
        self.share, self.classes, self.seed, self.everywhere = share, classes, seed, everywhere

    @property
    def description(self) -> str:
        """Equal for errors that are the same, given the data's seed."""
        everywhere = ", everywhere" if self.everywhere else ""
        return f"{type(self).__name__}({self.share}, {self.classes}, {self.seed}{everywhere})"

    def concerns(self, split: str) -> bool:
        """Whether a split (``train``, ``val``, ``test``) has wrong labels."""
        return split == "train" or self.everywhere

    def apply(self, index: Tensor, labels: Tensor, seed: int, split: str = "train") -> Tensor:
        """The labels with errors.

        Args:
            index: numbers of the examples, int64 ``[n]``.
            labels: int64 ``[n]``.
            seed: that of the data.
            split: of which the examples are.
        """
        if labels.is_floating_point() or labels.dim() != 1:
            raise UserError(
                "data.label_errors: the targets are no classes; allowed: data whose targets are class numbers"
            )
        if len(labels) and int(labels.max()) >= self.classes:
            raise UserError(
                f"data.label_errors.classes: {self.classes}, but there is a label {int(labels.max())}; "
                f"allowed: the "
                "number of classes of the data"
            )
        purpose = "label errors" if split == "train" else f"label errors {split}"
        key = derive_key(seed if self.seed is None else self.seed, purpose)
        chosen = uniform(key, index, 1, dtype=torch.float64).squeeze(-1) < self.share
        return torch.where(chosen, self.wrong(key, index, labels), labels)

    @abstractmethod
    def wrong(self, key: Key, index: Tensor, labels: Tensor) -> Tensor:
        """What each label becomes if it is wrong: int64 ``[n]``, different from ``labels``."""


class DirectedErrors(LabelErrors):
    """Every class is taken for one other: y → y + shift mod classes.

    Args:
        share: probability that a label is wrong.
        classes: how many there are.
        shift: to the class that it is taken for; no multiple of ``classes``.
        seed: see :class:`LabelErrors`.
        everywhere: see :class:`LabelErrors`.
    """

    def __init__(
        self,
        share: float,
        classes: int = 10,
        shift: int = 1,
        seed: int | None = None,
        everywhere: bool = False,
    ) -> None:
        super().__init__(share, classes, seed, everywhere)
        if shift % classes == 0:
            raise UserError(
                f"data.label_errors.shift: {shift} leaves {classes} classes as they are; allowed: others"
            )
        self.shift = shift

    @property
    def description(self) -> str:
        return f"{super().description} + {self.shift}"

    def wrong(self, key: Key, index: Tensor, labels: Tensor) -> Tensor:
        return (labels + self.shift) % self.classes


class SymmetricErrors(LabelErrors):
    """A wrong label is any of the other classes, all alike."""

    def wrong(self, key: Key, index: Tensor, labels: Tensor) -> Tensor:
        shift = 1 + integers(key, index, 1, self.classes - 1, substream=1).squeeze(-1)
        return (labels + shift) % self.classes
