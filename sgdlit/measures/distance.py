"""How far the parameters have moved from where they began."""

from collections.abc import Iterable

from sgdlit.measures.mean_gradient import by_layer
from sgdlit.measures.measure import Measure, Parameters, RunAtStep, Values, layers_of_run
from sgdlit.measures.rows import Rows, both_as_rows, parameters_as_rows


def distance(one: Parameters, other: Parameters) -> float:
    """‖θ − θ′‖ of two sets of parameters by name, in θ; both have the same shapes."""
    here, there = both_as_rows(one, other)
    apart = here.minus(there)
    return _length(apart.by_name(apart.squares())[0].values())


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
        apart = Rows.of(run.initial_parameters).minus(run.once(parameters_as_rows))
        (squares,) = apart.by_name(apart.squares())
        found = {"measure/distance_from_start": _length(squares.values())}
        for layer, own in by_layer(run.once(layers_of_run), squares).items():
            found[f"measure/distance_from_start/{layer}"] = _length(own.values())
        return found
