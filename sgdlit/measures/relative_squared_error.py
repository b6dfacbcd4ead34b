"""Relative squared error of predictions, Σ (y − p)² / Σ y²: what part of the targets' square is missed."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from sgdlit.data.keyed_data import KeyedData
from sgdlit.data.sensing import MatrixSensing
from sgdlit.foundations.arguments import require_counts
from sgdlit.foundations.errors import UserError
from sgdlit.measures.measure import Measure, RunAtStep, Values


def squared_sums(cost: Tensor, targets: Tensor) -> Tensor:
    """(Σ (y − p)², Σ y²): sums that add up over micro-batches and ranks before they are divided.

    Args:
        cost: mean of ½(y − p)² over the examples, ``[...]``.
        targets: y, ``[..., batch]``.

    Returns:
        shape ``[2, ...]``.
    """
    return torch.stack((2 * targets.shape[-1] * cost, targets.square().sum(-1)))


def relative_squared_error(cost: Tensor, targets: Tensor) -> Tensor:
    """Σ (y − p)² / Σ y², ``[...]``; see :func:`squared_sums`."""
    missed, squares = squared_sums(cost, targets)
    return missed / squares


class UnseenError(Measure):
    """``sensing/relative_squared_error`` of minibatches, the mean of the last ``window`` steps, and
    ``sensing/samples`` seen.

    It is measured before the update that the minibatch causes, so that it is an error on examples not yet
    seen.

    Args:
        window: steps over which the errors of minibatches are averaged.
        cadence: see :class:`Measure`.
    """

    formula = "Σ(y − p)² / Σy² of minibatches before their update, mean of the last window steps"
    answers = "how large is the error on examples not yet seen"
    price = "0"
    logged = ("sensing/relative_squared_error", "sensing/samples")
    headline = "sensing/relative_squared_error"

    def __init__(self, window: int = 20, **cadence: Any) -> None:
        super().__init__(**cadence)
        require_counts(type(self).__name__, window=window)
        self.window = window
        self.errors = torch.zeros(window, 1)  # of the last steps' minibatches, by member: a ring, by step

    def check(self, network: nn.Module, data: KeyedData) -> None:
        if not isinstance(data, MatrixSensing):
            raise UserError(
                f"UnseenError: cannot look at {type(data).__name__}; allowed: data: "
                "sgdlit.data.sensing.MatrixSensing"
            )

    def begin(self, members: int, device: torch.device) -> None:
        if self.errors.shape[1] != members:
            self.errors = torch.zeros(self.window, members)
        self.errors = self.errors.to(device)

    def note(self, squared_sums: Callable[[int], Tensor], start: int, count: int, owned: slice) -> None:
        for k in range(max(0, count - self.window), count):
            missed, squares = squared_sums(k)
            self.errors[(start + k) % self.window, owned] = missed / squares

    def take(self, run: RunAtStep, member: int) -> Values:
        if run.step == 0:
            return {}
        error = float(self.errors[: run.step, member].mean())
        return {
            "sensing/samples": run.step * run.data.batch_size,
            "sensing/relative_squared_error": error,
        }

    def state(self, member: int) -> dict[str, Any]:
        return {"errors": self.errors[:, member].cpu().clone()}

    def restore(self, states: list[dict[str, Any]]) -> None:
        errors = torch.stack([state["errors"] for state in states], 1)
        if len(errors) != self.window:
            raise UserError(
                f"UnseenError.window: {self.window} differs from the checkpoint's; allowed: {len(errors)}"
            )
        self.errors = errors
