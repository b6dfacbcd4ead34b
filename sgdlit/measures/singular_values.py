"""The largest singular values of a matrix."""

import torch
from torch import Tensor

from sgdlit.measures.measure import RunAtStep, Values
from sgdlit.measures.relative_error import SensingMeasure


def singular_values(matrix: Tensor, count: int) -> Tensor:
    """The ``count`` largest singular values of a matrix (m, n), from the largest down."""
    return torch.linalg.svdvals(matrix)[:count]


class SensingSpectrum(SensingMeasure):
    """``sensing/singular_value_k`` of M beside ``sensing/target_singular_value_k`` of T, k = 1 … r."""

    def __init__(self, every_n_steps: int | None = None) -> None:
        super().__init__(every_n_steps)
        self._of_targets: dict[int, list[float]] = {}  # by member: they stay

    def take(self, run: RunAtStep, member: int) -> Values:
        if not bool(run.matrix.isfinite().all()):
            return {}
        if member not in self._of_targets:
            self._of_targets[member] = singular_values(run.data.target, run.data.r).tolist()
        own, of_target = singular_values(run.matrix, run.data.r).tolist(), self._of_targets[member]
        found = {f"sensing/singular_value_{i}": value for i, value in enumerate(own, start=1)}
        return found | {f"sensing/target_singular_value_{i}": v for i, v in enumerate(of_target, start=1)}
