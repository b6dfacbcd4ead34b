"""How far the parameters have moved from where they began."""

import torch

from sgdlit.measures.measure import Measure, Parameters, RunAtStep, Values


def distance(one: Parameters, other: Parameters) -> float:
    """‖θ − θ′‖ of two sets of parameters by name, in θ; float64 sums."""
    apart = [torch.linalg.vector_norm(one[n] - other[n], dtype=torch.float64) for n in one]
    return float(torch.linalg.vector_norm(torch.stack(apart)))


class Distance(Measure):
    """``measure/distance_from_start`` ‖θ_t − θ₀‖; θ₀ is kept, in checkpoints too."""

    formula = "‖θ_t − θ₀‖"
    answers = "how far has the network moved"
    price = "0, and the memory of another set of parameters"
    logged = ("measure/distance_from_start",)
    needs = ("parameters", "initial_parameters")

    def take(self, run: RunAtStep, member: int) -> Values:
        return {"measure/distance_from_start": distance(run.parameters, run.initial_parameters)}
