"""Relative squared error of predictions, Σ (y − p)² / Σ y²: what part of the targets' square is missed."""

import torch
from torch import Tensor


def squared_sums(outputs: Tensor, targets: Tensor) -> Tensor:
    """(Σ (y − p)², Σ y²), shape (2,): sums that add up over micro-batches and ranks before they are divided.

    Args:
        outputs: p, (batch, ...).
        targets: y, as many numbers.
    """
    return torch.stack(((targets - outputs.reshape(targets.shape)).square().sum(), targets.square().sum()))
