"""Losses and loaders as people have them, for functions that are called in a script."""

import weakref
from collections.abc import Callable, Iterable

from torch import Tensor
from torch.utils.data import DataLoader, RandomSampler

from sgdlit.data.batches import Batch
from sgdlit.foundations.console import warn
from sgdlit.foundations.errors import UserError
from sgdlit.foundations.generators import kept
from sgdlit.objectives import Loss

LossOfEach = Callable[[Tensor, Tensor], Tensor]
"""outputs ``[b, ...]``, targets ``[b, ...]`` -> the loss of each example ``[b]``; or a :class:`Loss`."""

_noticed: weakref.WeakSet[DataLoader] = weakref.WeakSet()


class EachOf(Loss):
    """A function of outputs and targets that gives one loss for each example, ``[b]``.

    Args:
        function: such as ``torch.nn.CrossEntropyLoss(reduction="none")``.
    """

    def __init__(self, function: LossOfEach) -> None:
        self.function = function

    def per_example(self, outputs: Tensor, targets: Tensor) -> Tensor:
        losses = self.function(outputs, targets)
        if losses.shape != (len(targets),):
            name = type(self.function).__name__
            raise UserError(
                f"loss: {name} gives {tuple(losses.shape)} for {len(targets)} examples, so no example has a "
                f"value of its own; allowed: one that gives ({len(targets)},), such as with reduction='none'"
            )
        return losses


def of_each(loss: LossOfEach) -> Loss:
    """A loss that has a value of each example: it itself, or a function that gives one for each."""
    return loss if isinstance(loss, Loss) else EachOf(loss)


def noticed(batches: Iterable[Batch]) -> Iterable[Batch]:
    """The batches as they are. Of a loader that shuffles it is said, once, what that means for measures."""
    shuffles = isinstance(batches, DataLoader) and isinstance(batches.sampler, RandomSampler)
    if isinstance(batches, DataLoader) and shuffles and batches not in _noticed:
        _noticed.add(batches)
        drops = ", and leaves others out" if batches.drop_last else ""
        warn(
            f"the DataLoader shuffles: each pass has its examples in another order{drops}, so a number comes "
            "back only up to rounding, and values of single examples in another order; shuffle=False mends it"
        )
    return batches


def gathered(batches: Iterable[Batch]) -> list[Batch]:
    """The batches of one pass, see :func:`noticed`; what a loader draws does not last."""
    with kept([]):
        return [(inputs, targets) for inputs, targets in noticed(batches)]
