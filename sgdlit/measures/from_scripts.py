"""Losses and loaders as people have them, for functions that are called in a script."""

import weakref
from collections.abc import Callable, Iterable, Sequence
from types import FunctionType

from torch import Tensor
from torch.utils.data import DataLoader, RandomSampler

from sgdlit.data.batches import Batch
from sgdlit.foundations.console import warn
from sgdlit.foundations.errors import UserError, nearest
from sgdlit.foundations.generators import kept
from sgdlit.objectives import LOSSES, Loss

LossOfEach = Callable[[Tensor, Tensor], Tensor]
"""outputs ``[b, ...]``, targets ``[b, ...]`` -> the loss of each example ``[b]``; or a :class:`Loss`."""

_noticed: weakref.WeakSet[DataLoader] = weakref.WeakSet()


class EachOf(Loss):
    """A function of outputs and targets that gives one loss for each example, ``[b]``.

    Args:
        function: such as ``torch.nn.CrossEntropyLoss(reduction="none")``.

    Raises:
        UserError: no function; when it is called, losses of another kind or shape.
    """

    def __init__(self, function: LossOfEach) -> None:
        self.function = _require_function(function)

    def per_example(self, outputs: Tensor, targets: Tensor) -> Tensor:
        losses = self.function(outputs, targets)
        if _shape(losses) != (len(targets),):
            raise UserError(
                f"loss: {_name(self.function)} gives {_kind(losses)} for {len(targets)} examples, so no "
                f"example has a value of its own; allowed: one that gives ({len(targets)},), such as with "
                "reduction='none'"
            )
        return losses


class MeanOf:
    """The mean loss of a batch by a function of outputs and targets that gives it, or each example's.

    Args:
        function: such as ``torch.nn.CrossEntropyLoss()``.

    Raises:
        UserError: no function; when it is called, losses of another kind or shape.
    """

    def __init__(self, function: LossOfEach) -> None:
        self.function = _require_function(function)

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        losses = self.function(outputs, targets)
        if _shape(losses) not in ((), (len(targets),)):
            raise UserError(
                f"loss: {_name(self.function)} gives {_kind(losses)} for {len(targets)} examples; allowed: "
                f"one that gives their mean (), or one for each ({len(targets)},)"
            )
        return losses.mean()


def of_each(loss: LossOfEach) -> Loss:
    """A loss that has a value of each example: it itself, or a function that gives one for each.

    Raises:
        UserError: it is neither.
    """
    return loss if isinstance(loss, Loss) else EachOf(loss)


def of_mean(loss: LossOfEach) -> LossOfEach:
    """A loss that gives a mean: it itself, or a function that gives a mean, or one for each example.

    Raises:
        UserError: it is neither.
    """
    return loss if isinstance(loss, Loss | MeanOf) else MeanOf(loss)


def _require_function(loss: object) -> LossOfEach:
    if isinstance(loss, type) or not callable(loss):
        if isinstance(loss, str):
            near = nearest(loss, LOSSES)
            meant = f"; did you mean sgdlit.objectives.loss_by_name({near!r})?" if near else ";"
        else:
            meant = f"; did you mean {loss.__name__}()?" if isinstance(loss, type) else ";"
        what = f"the class {loss.__name__}" if isinstance(loss, type) else repr(loss)
        raise UserError(
            f"loss: {what} is no function of outputs and targets{meant} allowed: a loss of "
            "sgdlit.objectives, or a function such as torch.nn.functional.cross_entropy"
        )
    return loss


def _shape(losses: object) -> tuple[int, ...] | None:
    return tuple(losses.shape) if isinstance(losses, Tensor) else None


def _kind(losses: object) -> str:
    return str(tuple(losses.shape)) if isinstance(losses, Tensor) else f"a {type(losses).__name__}"


def _name(function: LossOfEach) -> str:
    return function.__name__ if isinstance(function, FunctionType) else type(function).__name__


def noticed(batches: Iterable[Batch]) -> Iterable[Batch]:
    """The batches as they are. Of a loader that shuffles it is said, once, what that means for measures.

    Raises:
        UserError: one batch, or one tensor, stands there in place of several batches.
    """
    if isinstance(batches, Tensor) or (
        isinstance(batches, Sequence) and any(isinstance(part, Tensor) for part in batches)
    ):
        what = "a tensor" if isinstance(batches, Tensor) else f"a {type(batches).__name__} of tensors"
        raise UserError(f"batches: {what} is not possible; allowed: [(inputs, targets)], a list of pairs")
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
