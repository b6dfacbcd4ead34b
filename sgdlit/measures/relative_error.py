"""Relative error of a matrix: ‖M − T‖_F / ‖T‖_F."""

from torch import Tensor


def relative_error(matrix: Tensor, target: Tensor) -> Tensor:
    """‖M − T‖_F / ‖T‖_F, a scalar, of two matrices (d, d); 1 at M = 0."""
    return (matrix - target).norm() / target.norm()
