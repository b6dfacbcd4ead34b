"""Relative squared error of predictions, Σ (y − p)² / Σ y²: what part of the targets' square is missed."""

import torch
from torch import Tensor


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
