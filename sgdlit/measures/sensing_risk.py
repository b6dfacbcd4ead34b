"""Population risk of matrix sensing, in closed form."""

from torch import Tensor

from sgdlit.foundations.arguments import require_not_negative
from sgdlit.measures.measure import RunAtStep, Values
from sgdlit.measures.relative_error import SensingMeasure, length, missed


def sensing_risk(matrix: Tensor, target: Tensor, label_noise: float = 0.0) -> Tensor:
    """E ½(y − aᵀMb)² = ½‖M − T‖²_F + ½σ², a float64 scalar, for y = aᵀTb + σ·noise.

    Holds for independent a and b of any distribution with mean zero and identity covariance, because then
    E (aᵀΔb)² = E tr(Δᵀaaᵀ Δbbᵀ) = tr(ΔᵀΔ).

    Args:
        matrix: M (d, d).
        target: T (d, d).
        label_noise: σ.
    """
    require_not_negative(label_noise=label_noise)
    return 0.5 * (length(matrix - target).square() + label_noise**2)


class SensingRisk(SensingMeasure):
    """``sensing/population_risk`` of the network's matrix."""

    formula = "E ½(y − aᵀMb)² = ½‖M − T‖²_F + ½σ²"
    answers = "what does matrix sensing cost on all examples there could be"
    price = "0"
    logged = ("sensing/population_risk",)

    def take(self, run: RunAtStep, member: int) -> Values:
        return {"sensing/population_risk": 0.5 * (run.once(missed) ** 2 + run.data.label_noise**2)}
