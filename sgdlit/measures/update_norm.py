"""Length and direction of single updates d_t = θ_t − θ_{t−1}."""

from collections.abc import Iterable
from typing import NamedTuple

from torch import Tensor

from sgdlit.measures.mean_gradient import by_layer
from sgdlit.measures.measure import Measure, Parameters, RunAtStep, Values, layers_of_run
from sgdlit.measures.rows import Rows, both_as_rows, parameters_as_rows


def update(before: Parameters, after: Parameters) -> dict[str, Tensor]:
    """θ_t − θ_{t−1}, by the parameter's name."""
    return {name: after[name] - before[name] for name in after}


class Products(NamedTuple):
    """⟨d, d′⟩, ‖d‖² and ‖d′‖² of two vectors, or of parts of them, which add up."""

    inner: float
    first: float
    second: float

    @property
    def cosine(self) -> float:
        """⟨d, d′⟩/(‖d‖‖d′‖); NaN where one is 0."""
        lengths = (self.first * self.second) ** 0.5
        return self.inner / lengths if lengths else float("nan")


def products(one: Parameters, other: Parameters) -> dict[str, Products]:
    """Those of each parameter's part, by name; both have the same shapes."""
    a, b = both_as_rows(one, other)
    inner, first, second = a.by_name(a.inner(b), a.squares(), b.squares())
    return {n: Products(inner[n], first[n], second[n]) for n in inner}


def cosine(one: Parameters, other: Parameters) -> float:
    """⟨d, d′⟩/(‖d‖‖d′‖) of two vectors given by the names of parameters; NaN where one is 0."""
    return _sum(products(one, other).values()).cosine


def _sum(parts: Iterable[Products]) -> Products:
    return Products(*map(sum, zip(*parts, strict=True)))


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
        here = run.once(parameters_as_rows)
        before, *earlier = map(Rows.of, run.previous_parameters)
        last = here.minus(before)
        of_rows = [last.squares(), here.squares()]
        if earlier:
            older = before.minus(earlier[0])
            of_rows += [last.inner(older), older.squares()]
        squares, own, *others = here.by_name(*of_rows)
        length, size = (sum(of.values()) ** 0.5 for of in (squares, own))
        found = {"measure/update_norm": length}
        if size:
            found["measure/relative_update_norm"] = length / size
        layers = by_layer(run.once(layers_of_run), squares)
        found |= {f"measure/update_norm/{layer}": sum(own.values()) ** 0.5 for layer, own in layers.items()}
        if not others:
            return found
        inner, before_squares = others
        both = {n: Products(inner[n], squares[n], before_squares[n]) for n in inner}
        cosines = {f"/{layer}": _sum(both[n] for n in own).cosine for layer, own in layers.items()}
        cosines[""] = _sum(both.values()).cosine
        return found | {f"measure/cosine_of_updates{at}": c for at, c in cosines.items() if c == c}
