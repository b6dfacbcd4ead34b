"""Length and direction of single updates d_t = θ_t − θ_{t−1}."""

from torch import Tensor

from sgdlit.measures.mean_gradient import by_layer, squared_norm
from sgdlit.measures.measure import Measure, Parameters, RunAtStep, Values


def update(before: Parameters, after: Parameters) -> dict[str, Tensor]:
    """θ_t − θ_{t−1}, by the parameter's name."""
    return {name: after[name] - before[name] for name in after}


def cosine(one: Parameters, other: Parameters) -> float:
    """⟨d, d′⟩/(‖d‖‖d′‖) of two vectors given by the names of parameters; NaN where one is 0."""
    inner = sum(float(one[n].double().flatten() @ other[n].double().flatten()) for n in one)
    lengths = (squared_norm(one) * squared_norm(other)) ** 0.5
    return inner / lengths if lengths else float("nan")


class UpdateNorm(Measure):
    """``measure/update_norm`` ‖d_t‖ of the last update before a step, ``measure/relative_update_norm``
    ‖d_t‖/‖θ_t‖, and ``measure/cosine_of_updates`` between d_t and the update before it; the first and the
    last of each layer too.

    They are those of single updates, however far apart the steps are at which they are taken: the parameters
    of the two steps before are copied. Nothing is known of an update at step 0, nor of two at step 1, nor at
    the end of a run that ends before its last step.
    """

    formula = "‖d_t‖, ‖d_t‖/‖θ_t‖, ⟨d_t, d_{t−1}⟩/(‖d_t‖‖d_{t−1}‖), with d_t = θ_t − θ_{t−1}"
    answers = "how large are the steps, and do they oscillate (cosine −1 at the edge of stability)"
    price = "0, and two copies of the parameters"
    logged = (
        "measure/update_norm",
        "measure/relative_update_norm",
        "measure/cosine_of_updates",
        "measure/update_norm/LAYER",
        "measure/cosine_of_updates/LAYER",
    )
    needs = ("parameters", "previous_parameters")
    looks_back = 2

    def take(self, run: RunAtStep, member: int) -> Values:
        if not run.previous_parameters:
            return {}
        before, *earlier = run.previous_parameters
        last = update(before, run.parameters)
        length, size = squared_norm(last) ** 0.5, squared_norm(run.parameters) ** 0.5
        found = {"measure/update_norm": length}
        if size:
            found["measure/relative_update_norm"] = length / size
        of_layers = by_layer(run.network, last)
        found |= {
            f"measure/update_norm/{layer}": squared_norm(own) ** 0.5 for layer, own in of_layers.items()
        }
        if not earlier:
            return found
        earlier_one = update(earlier[0], before)
        cosines = {f"/{layer}": cosine(own, earlier_one) for layer, own in of_layers.items()}
        cosines[""] = cosine(last, earlier_one)
        return found | {f"measure/cosine_of_updates{at}": c for at, c in cosines.items() if c == c}
