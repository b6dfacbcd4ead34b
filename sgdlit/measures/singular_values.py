"""The largest singular values of a matrix."""

import torch
from torch import Tensor


def singular_values(matrix: Tensor, count: int) -> Tensor:
    """The ``count`` largest singular values of a matrix (m, n), from the largest down."""
    return torch.linalg.svdvals(matrix)[:count]
