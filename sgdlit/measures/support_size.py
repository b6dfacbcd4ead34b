"""Support: how many coefficients of a linear function are not zero."""

from typing import Any

from torch import Tensor, nn

from sgdlit.data.keyed_data import KeyedData
from sgdlit.foundations.arguments import require_not_negative
from sgdlit.foundations.errors import UserError
from sgdlit.measures.measure import Measure, RunAtStep, Values
from sgdlit.models.diagonal import DiagonalLinear


def support_size(coefficients: Tensor, threshold: float = 1e-3) -> int:
    """‖β‖₀ up to a threshold: #{i: |β_i| > τ} of the coefficients β, of any shape."""
    require_not_negative(threshold=threshold)
    return int((coefficients.detach().abs() > threshold).sum())


class SupportSize(Measure):
    """``measure/support_size`` #{i: \\|β_i\\| > τ} of a diagonal linear network.

    Args:
        threshold: τ.
        cadence: see :class:`Measure`.
    """

    formula = "#{i: |β_i| > τ}, β = u ⊙ v"
    answers = "how sparse is the function of a diagonal linear network"
    price = "0"
    logged = ("measure/support_size",)
    headline = "measure/support_size"

    def __init__(self, threshold: float = 1e-3, **cadence: Any) -> None:
        super().__init__(**cadence)
        if not 0 <= threshold < float("inf"):
            raise UserError(f"SupportSize.threshold: {threshold} is not possible; allowed: 0 or more")
        self.threshold = threshold

    def check(self, network: nn.Module, data: KeyedData) -> None:
        if not isinstance(network, DiagonalLinear):
            raise UserError(
                f"SupportSize: {type(network).__name__} has no coefficients; allowed: "
                "sgdlit.models.diagonal.DiagonalLinear"
            )

    def take(self, run: RunAtStep, member: int) -> Values:
        assert isinstance(run.network, DiagonalLinear), "check() lets no others pass"
        return {"measure/support_size": support_size(run.network.coefficients, self.threshold)}
