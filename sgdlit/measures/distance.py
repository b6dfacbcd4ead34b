"""How far the parameters have moved from where they began."""

import torch

from sgdlit.measures.mean_gradient import by_layer
from sgdlit.measures.measure import Measure, Parameters, RunAtStep, Values


def distance(one: Parameters, other: Parameters) -> float:
    """‖θ − θ′‖ of two sets of parameters by name, in θ; float64 sums."""
    apart = [torch.linalg.vector_norm(one[n] - other[n], dtype=torch.float64) for n in one]
    return float(torch.linalg.vector_norm(torch.stack(apart)))


class Distance(Measure):
    """``measure/distance_from_start`` ‖θ_t − θ₀‖, and that of each layer; θ₀ is kept, in checkpoints too."""

    formula = "‖θ_t − θ₀‖"
    answers = "how far has the network moved"
    price = "0, and the memory of another set of parameters"
    logged = ("measure/distance_from_start", "measure/distance_from_start/LAYER")
    needs = ("parameters", "initial_parameters")

    def take(self, run: RunAtStep, member: int) -> Values:
        found = {"measure/distance_from_start": distance(run.parameters, run.initial_parameters)}
        for layer, own in by_layer(run.network, run.parameters).items():
            found[f"measure/distance_from_start/{layer}"] = distance(own, run.initial_parameters)
        return found
