"""How far the parameters have moved from where they began."""

from collections.abc import Iterable

from sgdlit.measures.mean_gradient import by_layer
from sgdlit.measures.measure import Measure, Parameters, RunAtStep, Values
from sgdlit.measures.rows import Rows, parameters_as_rows


def distance(one: Parameters, other: Parameters) -> float:
    """‖θ − θ′‖ of two sets of parameters by name, in θ."""
    rows = Rows(one)
    return _length(rows.squares(rows.of(one).sub_(rows.of(other))).values())


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
        rows, here = run.once(parameters_as_rows)
        apart = rows.squares(rows.of(run.initial_parameters).sub_(here))
        found = {"measure/distance_from_start": _length(apart.values())}
        for layer, own in by_layer(run.network, apart).items():
            found[f"measure/distance_from_start/{layer}"] = _length(own.values())
        return found
