"""How far the parameters have moved from where they began."""

from collections.abc import Iterable

from sgdlit.measures.mean_gradient import by_layer, inner_product
from sgdlit.measures.measure import Measure, Parameters, RunAtStep, Values


def distance(one: Parameters, other: Parameters) -> float:
    """‖θ − θ′‖ of two sets of parameters by name, in θ."""
    return _length(squared_distances(one, other).values())


def squared_distances(one: Parameters, other: Parameters) -> dict[str, float]:
    """‖θ_n − θ′_n‖² of each parameter n."""
    apart = {n: one[n] - other[n] for n in one}
    return {n: inner_product(d, d) for n, d in apart.items()}


def _length(squares: Iterable[float]) -> float:
    return sum(squares) ** 0.5


class Distance(Measure):
    """``measure/distance_from_start`` ‖θ_t − θ₀‖, and that of each layer; θ₀ is kept, in checkpoints too."""

    formula = "‖θ_t − θ₀‖"
    answers = "how far has the network moved"
    price = "0, and the memory of another set of parameters"
    logged = ("measure/distance_from_start", "measure/distance_from_start/LAYER")
    needs = ("parameters", "initial_parameters")

    def take(self, run: RunAtStep, member: int) -> Values:
        apart = squared_distances(run.parameters, run.initial_parameters)
        found = {"measure/distance_from_start": _length(apart.values())}
        for layer, own in by_layer(run.network, apart).items():
            found[f"measure/distance_from_start/{layer}"] = _length(own.values())
        return found
