"""Relative error of a matrix: ‖M − T‖_F / ‖T‖_F."""

import torch
from torch import Tensor


def relative_error(matrix: Tensor, target: Tensor) -> Tensor:
    """‖M − T‖_F / ‖T‖_F, a float64 scalar, of two matrices (d, d); 1 at M = 0."""
    missed, whole = (torch.linalg.vector_norm(m, dtype=torch.float64) for m in (matrix - target, target))
    return missed / whole
