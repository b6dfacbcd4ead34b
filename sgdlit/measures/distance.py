"""How far the parameters have moved from where they began."""

from collections.abc import Iterable

import torch
from torch import Tensor

from sgdlit.measures.mean_gradient import by_layer
from sgdlit.measures.measure import Measure, Parameters, RunAtStep, Values


def distance(one: Parameters, other: Parameters) -> float:
    """‖θ − θ′‖ of two sets of parameters by name, in θ; float64 sums."""
    return _length(distances(one, other).values())


def distances(one: Parameters, other: Parameters) -> dict[str, Tensor]:
    """‖θ_n − θ′_n‖ of each parameter n, float64."""
    return {n: torch.linalg.vector_norm(one[n] - other[n], dtype=torch.float64) for n in one}


def _length(parts: Iterable[Tensor]) -> float:
    return float(torch.linalg.vector_norm(torch.stack(list(parts))))


class Distance(Measure):
    """``measure/distance_from_start`` ‖θ_t − θ₀‖, and that of each layer; θ₀ is kept, in checkpoints too."""

    formula = "‖θ_t − θ₀‖"
    answers = "how far has the network moved"
    price = "0, and the memory of another set of parameters"
    logged = ("measure/distance_from_start", "measure/distance_from_start/LAYER")
    needs = ("parameters", "initial_parameters")

    def take(self, run: RunAtStep, member: int) -> Values:
        apart = distances(run.parameters, run.initial_parameters)
        found = {"measure/distance_from_start": _length(apart.values())}
        for layer, own in by_layer(run.network, apart).items():
            found[f"measure/distance_from_start/{layer}"] = _length(own.values())
        return found
