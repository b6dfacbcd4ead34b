"""Soft error: how far the probability of the right class is from one."""

import torch
from torch import Tensor


def soft_error(outputs: Tensor, labels: Tensor) -> Tensor:
    """1 − softmax(f)_y of each example, shape (batch,) (Nakkiran et al. 2020, 2010.08127).

    Args:
        outputs: f, (batch, classes).
        labels: y, classes (batch,).
    """
    return 1 - torch.softmax(outputs, 1).gather(1, labels.unsqueeze(1)).squeeze(1)
