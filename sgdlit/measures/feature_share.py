"""Feature share: how much of the first layer's weight lies on some inputs."""

from typing import Any

from torch import Tensor, nn

from sgdlit.data.keyed_data import KeyedData
from sgdlit.foundations.arguments import require_some
from sgdlit.foundations.errors import UserError
from sgdlit.measures.measure import Measure, RunAtStep, Values


def feature_share(weight: Tensor, inputs: list[int]) -> float:
    """Σ_k Σ_{j∈S} w_kj² / Σ_k ‖w_k‖² of a first layer's matrix, ``[..., N, d]``, and inputs S; float64 sums.

    Weights of one size on all inputs have |S|/d.

    Raises:
        UserError: no inputs, or one that is none of the d.
    """
    require_some("inputs", inputs)
    for place in inputs:
        if not 0 <= place < weight.shape[-1]:
            raise UserError(f"inputs: {place} is not possible; allowed: 0 to {weight.shape[-1] - 1}")
    squares = weight.detach().double().square()
    return float(squares[..., inputs].sum() / squares.sum())


def first_matrix(network: nn.Module) -> Tensor | None:
    """The first parameter that is a matrix, ``[N, d]``; None where there is none."""
    return next((p for p in network.parameters() if p.dim() == 2), None)


class FeatureShare(Measure):
    """``measure/feature_share`` Σ_{j∈S} w_kj²/Σ‖w_k‖² of the first layer's neurons k.

    Args:
        inputs: S, places from 0.
        cadence: see :class:`Measure`.
    """

    formula = "Σ_k Σ_{j∈S} w_kj² / Σ_k ‖w_k‖²"
    answers = "how much of the first layer looks at the inputs that matter"
    price = "0"
    logged = ("measure/feature_share",)
    small = ({"inputs": [0, 1]},)
    headline = "measure/feature_share"

    def __init__(self, inputs: list[int], **cadence: Any) -> None:
        super().__init__(**cadence)
        if not inputs or len(set(inputs)) < len(inputs) or min(inputs) < 0:
            raise UserError(
                f"FeatureShare.inputs: {inputs} is not possible; allowed: places from 0, each once"
            )
        self.inputs = list(inputs)

    def check(self, network: nn.Module, data: KeyedData) -> None:
        weight = first_matrix(network)
        if weight is None:
            raise UserError(
                f"FeatureShare: {type(network).__name__} has no matrix of weights; allowed: networks with one"
            )
        if max(self.inputs) >= weight.shape[1]:
            raise UserError(
                f"FeatureShare: inputs {self.inputs} of a first layer with {weight.shape[1]}; allowed: 0 to "
                f"{weight.shape[1] - 1}"
            )

    def take(self, run: RunAtStep, member: int) -> Values:
        weight = first_matrix(run.network)
        assert weight is not None, "check() lets no others pass"
        return {"measure/feature_share": feature_share(weight, self.inputs)}
