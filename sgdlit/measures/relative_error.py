"""Relative error of a matrix: ‖M − T‖_F / ‖T‖_F."""

from typing import Any

import torch
from torch import Tensor, nn

from sgdlit.data.keyed_data import KeyedData
from sgdlit.data.sensing import MatrixSensing
from sgdlit.foundations.errors import UserError
from sgdlit.measures.measure import Measure, RunAtStep, Values
from sgdlit.models.sensing import BilinearForm


def relative_error(matrix: Tensor, target: Tensor) -> Tensor:
    """‖M − T‖_F / ‖T‖_F, a float64 scalar, of two matrices (d, d); 1 at M = 0."""
    return length(matrix - target) / length(target)


def length(matrix: Tensor) -> Tensor:
    """‖M‖_F, a float64 scalar."""
    return torch.linalg.vector_norm(matrix, dtype=torch.float64)


def missed(run: RunAtStep) -> float:
    """‖M − T‖_F, which the error and the risk share; finite where M is."""
    return float(length(run.matrix - run.target))


class SensingMeasure(Measure):
    """What is measured of a linear network with prediction aᵀMb on matrix sensing."""

    needs = ("matrix", "target")

    def check(self, network: nn.Module, data: KeyedData) -> None:
        linear = isinstance(network, BilinearForm) and network.matrix is not None
        if not isinstance(data, MatrixSensing) or not linear:
            raise UserError(
                f"{type(self).__name__}: cannot look at {type(network).__name__} on {type(data).__name__}; "
                "allowed: model.network: sgdlit.models.sensing.BilinearForm of a DeepLinear, data: "
                "sgdlit.data.sensing.MatrixSensing"
            )


class RelativeError(SensingMeasure):
    """``sensing/relative_error`` ‖M − T‖_F/‖T‖_F of the network's matrix M, and ``sensing/samples`` seen."""

    formula = "‖M − T‖_F / ‖T‖_F"
    answers = "how far is a linear network's matrix from the target of matrix sensing"
    price = "0"
    logged = ("sensing/relative_error", "sensing/samples")
    headline = "sensing/relative_error"

    def __init__(self, **cadence: Any) -> None:
        super().__init__(**cadence)
        self._of_targets: dict[int, float] = {}  # ‖T‖_F by member: it stays

    def begin(self, members: int, device: torch.device) -> None:
        self._of_targets = {}

    def take(self, run: RunAtStep, member: int) -> Values:
        if member not in self._of_targets:
            self._of_targets[member] = float(length(run.target))
        return {
            "sensing/samples": run.step * run.data.batch_size,
            "sensing/relative_error": run.once(missed) / self._of_targets[member],
        }
