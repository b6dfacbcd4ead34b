"""The losses that training can minimise: per example, as the mean over a batch, and what counts as correct.

All of them are plain functions of outputs and targets without control flow that depends on the numbers, so
that they work under ``torch.vmap`` and ``torch.compile``; ``check_targets`` holds the checks, to be called on
data once.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor
from torch.nn import functional as F

from sgdlit.foundations.errors import UserError


class Loss(ABC):
    """A loss of outputs (batch, ...) and targets (batch, ...)."""

    @abstractmethod
    def per_example(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The loss of each example, shape (batch,)."""

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The mean over the batch, a scalar."""
        return self.per_example(outputs, targets).mean()

    def correct(self, outputs: Tensor, targets: Tensor) -> Tensor | None:
        """Whether each example is classified correctly, bool (batch,); None where nothing is classified."""
        return None

    def classify(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """The predicted class of each example and its probability, each of shape (batch,).

        Raises:
            UserError: a loss whose outputs are no class.
        """
        raise UserError(f"{type(self).__name__}: its outputs are no classes, so there is nothing to predict")

    def check_targets(self, outputs: Tensor, targets: Tensor) -> None:
        """Raise UserError if the targets are not what this loss is defined for."""
        if len(outputs) != len(targets):
            raise UserError(f"targets: {len(targets)} of them for {len(outputs)} outputs")


class CrossEntropy(Loss):
    """-log softmax(f)_y, with outputs f (batch, classes) and targets y (batch,) in 0 ... classes-1.

    Targets may also be probabilities q (batch, classes): -Σ_k q_k log softmax(f)_k, and the class that counts
    as correct is the most probable one.
    """

    def per_example(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(outputs, targets, reduction="none")

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(outputs, targets)

    def correct(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return outputs.argmax(1) == (targets.argmax(1) if targets.is_floating_point() else targets)

    def classify(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        probability, guess = torch.softmax(outputs.double(), 1).max(1)
        return guess, probability

    def check_targets(self, outputs: Tensor, targets: Tensor) -> None:
        super().check_targets(outputs, targets)
        if targets.is_floating_point():
            check_probabilities(outputs, targets)
            return
        if targets.dim() != 1:
            raise UserError(
                f"targets: cross_entropy needs one class index or one row of probabilities per example, not "
                f"{targets.dtype} of shape {tuple(targets.shape)}"
            )
        check_labels(targets, outputs.shape[1])


class NextToken(Loss):
    """The mean over a sequence of -log softmax(f)_y, with outputs f (batch, length, tokens) and targets y
    (batch, length) in 0 ... tokens-1: an example is a sequence."""

    def per_example(self, outputs: Tensor, targets: Tensor) -> Tensor:
        each = F.cross_entropy(outputs.flatten(0, 1), targets.flatten(), reduction="none")
        return each.view(targets.shape).mean(1)

    def check_targets(self, outputs: Tensor, targets: Tensor) -> None:
        super().check_targets(outputs, targets)
        if targets.is_floating_point() or targets.shape != outputs.shape[:-1] or targets.dim() != 2:
            raise UserError(
                f"targets: next_token needs a token for each of {tuple(outputs.shape[:-1])} places, not "
                f"{targets.dtype} of shape {tuple(targets.shape)}"
            )
        check_labels(targets, outputs.shape[-1])


class HalfSquaredError(Loss):
    """½ ‖f - y‖², summed over the outputs of an example.

    Targets of an integer type are classes, and stand for their one-hot vectors; others have the outputs'
    shape, or (batch,) where there is one output.
    """

    def per_example(self, outputs: Tensor, targets: Tensor) -> Tensor:
        if not targets.is_floating_point():
            classes = torch.arange(outputs.shape[1], device=targets.device)
            targets = (targets.unsqueeze(-1) == classes).to(outputs.dtype)  # F.one_hot fails under vmap
        return 0.5 * (outputs - targets.reshape(outputs.shape)).square().flatten(1).sum(1)

    def correct(self, outputs: Tensor, targets: Tensor) -> Tensor | None:
        return None if targets.is_floating_point() else outputs.argmax(1) == targets

    def check_targets(self, outputs: Tensor, targets: Tensor) -> None:
        super().check_targets(outputs, targets)
        if not targets.is_floating_point():
            check_labels(targets, outputs.shape[1])
        elif targets.numel() != outputs.numel():
            raise UserError(
                f"targets: shape {tuple(targets.shape)} does not fit outputs of shape {tuple(outputs.shape)}"
            )


class Logistic(Loss):
    """log(1 + exp(-y f)), with outputs f (batch,) or (batch, 1) and targets y (batch,) in {-1, +1}."""

    def per_example(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return -F.logsigmoid(targets * outputs.reshape(targets.shape))

    def correct(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return targets * outputs.reshape(targets.shape) > 0

    def classify(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        outputs = outputs.double().flatten()
        return torch.where(outputs > 0, 1, -1), torch.sigmoid(outputs.abs())

    def check_targets(self, outputs: Tensor, targets: Tensor) -> None:
        super().check_targets(outputs, targets)
        check_signs("logistic", outputs, targets)


class Hinge(Loss):
    """max(0, 1 - y f), with outputs f (batch,) or (batch, 1) and targets y (batch,) in {-1, +1}.

    A margin α in place of 1 is the same training of f/α: max(0, α - y f) = α max(0, 1 - y f/α).
    """

    def per_example(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.relu(1 - targets * outputs.reshape(targets.shape))

    def correct(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return targets * outputs.reshape(targets.shape) > 0

    def check_targets(self, outputs: Tensor, targets: Tensor) -> None:
        super().check_targets(outputs, targets)
        check_signs("hinge", outputs, targets)


class NetworkOutput(Loss):
    """The output, (batch,) or (batch, 1), of a network that computes the cost; targets are not used."""

    def per_example(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return outputs.reshape(len(outputs))

    def check_targets(self, outputs: Tensor, targets: Tensor) -> None:
        super().check_targets(outputs, targets)
        if outputs.numel() != len(outputs):
            raise UserError(
                f"outputs: network_output needs one number per example, not {tuple(outputs.shape)}"
            )


LOSSES: dict[str, Loss] = {
    "cross_entropy": CrossEntropy(),
    "half_squared_error": HalfSquaredError(),
    "hinge": Hinge(),
    "logistic": Logistic(),
    "network_output": NetworkOutput(),
    "next_token": NextToken(),
}


def loss_by_name(name: str) -> Loss:
    """The loss called ``name`` in ``LOSSES``.

    Raises:
        UserError: if there is no loss of that name.
    """
    if name not in LOSSES:
        raise UserError(f"loss: {name!r} is not known; allowed are {', '.join(LOSSES)}")
    return LOSSES[name]


def check_probabilities(outputs: Tensor, targets: Tensor) -> None:
    if targets.shape != outputs.shape:
        raise UserError(
            f"targets: {targets.dtype} of shape {tuple(targets.shape)} are no probabilities for outputs of "
            f"shape {tuple(outputs.shape)}; allowed: class indices (whole numbers), or a "
            "distribution over classes for each"
        )
    if (targets < 0).any() or ((targets.sum(1) - 1).abs() > 1e-4).any():
        raise UserError("targets: a row is no distribution; probabilities are 0 or more and sum to 1")


def check_signs(name: str, outputs: Tensor, targets: Tensor) -> None:
    wrong = targets[targets.abs() != 1]
    if len(wrong):
        raise UserError(f"targets: label {wrong[0].item()} is not allowed; {name} loss needs -1 and +1")
    if outputs.numel() != targets.numel():
        raise UserError(f"outputs: {name} loss needs one per example, not {tuple(outputs.shape)}")


def check_labels(labels: Tensor, classes: int) -> None:
    wrong = labels[torch.logical_or(labels < 0, labels >= classes)]
    if len(wrong):
        raise UserError(
            f"targets: label {wrong[0].item()} is not allowed; there are {classes} classes from 0"
        )
