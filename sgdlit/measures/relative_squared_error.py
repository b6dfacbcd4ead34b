"""Relative squared error of predictions, Σ (y − p)² / Σ y²: what part of the targets' square is missed."""

import torch
from torch import Tensor


def squared_sums(cost: Tensor, targets: Tensor) -> Tensor:
    """(Σ (y − p)², Σ y²), shape (2,): sums that add up over micro-batches and ranks before they are divided.

    Args:
        cost: mean of ½(y − p)² over the examples.
        targets: y, (batch,).
    """
    return torch.stack((2 * len(targets) * cost, targets.square().sum()))


def relative_squared_error(cost: Tensor, targets: Tensor) -> Tensor:
    """Σ (y − p)² / Σ y², a scalar; see :func:`squared_sums`."""
    missed, squares = squared_sums(cost, targets.flatten())
    return missed / squares
