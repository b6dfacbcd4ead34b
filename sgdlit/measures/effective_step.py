"""How far an update turns each parameter: the step that counts where only its direction does."""

import math

from torch import Tensor, nn

from sgdlit.measures.measure import Measure, Parameters, RunAtStep, Values


def angle(one: Tensor, other: Tensor) -> float:
    """The angle between two tensors of one shape, in radians; NaN where one is 0.

    2·arctan(‖û − v̂‖/‖û + v̂‖), which small angles do not lose to rounding as arccos ⟨û, v̂⟩ does.
    """
    u, v = one.double().flatten(), other.double().flatten()
    lengths = float(u.norm()) * float(v.norm())
    if not lengths:
        return math.nan
    u, v = u / u.norm(), v / v.norm()
    return 2 * math.atan2(float((u - v).norm()), float((u + v).norm()))


def effective_steps(network: nn.Module, before: Parameters, after: Parameters) -> dict[str, float]:
    """The angle by which each trained parameter has turned, by its name; none for one that is or was 0."""
    names = [name for name, p in network.named_parameters() if p.requires_grad]
    turned = {name: angle(before[name], after[name]) for name in names}
    return {name: value for name, value in turned.items() if not math.isnan(value)}


class EffectiveStep(Measure):
    """``measure/effective_step/PARAMETER``, the angle between w_t and w_{t−1} in radians, of each tensor.

    Where the loss does not depend on ‖w‖ (before a normalization) this is what an update does to the
    function; it falls with ‖w‖², which momentum makes grow (Heo et al. 2020, 2006.08217). Nothing is known of
    it at step 0.
    """

    formula = "∠(w_t, w_{t−1}) of each tensor"
    answers = "how far does an update turn each weight, and does its growing norm slow that down"
    price = "0, and a copy of the parameters"
    logged = ("measure/effective_step/PARAMETER",)
    needs = ("parameters", "previous_parameters")
    looks_back = 1

    def take(self, run: RunAtStep, member: int) -> Values:
        if not run.previous_parameters:
            return {}
        turned = effective_steps(run.network, run.previous_parameters[0], run.parameters)
        return {f"measure/effective_step/{name}": value for name, value in turned.items()}
