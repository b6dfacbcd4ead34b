"""M1 to M6 of Smith et al. 2021: endpoints of epochs in every order of the minibatches, and gradient flow.

Distances between them are fitted as ε to a power, which says up to which order they agree.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sgdlit import theory
from sgdlit.figures.style import COLORS, MARKERS, binary_ticks, distinct, finish, panels, select
from sgdlit.foundations.errors import UserError
from sgdlit.papers.claim import EXACT, Claim, Finding
from sgdlit.papers.paper import Evidence, Experiment, Row, Tables, Workshop
from sgdlit.papers.support.fresh_seeds import FIRST

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from sgdlit.theory.modified_flow import SlopeCurve
    from sgdlit.theory.problems import Problem

SOURCE = "Smith et al. 2021, arXiv 2101.12176"


@dataclass
class Options:
    """Gradient flow and discrete training on small networks (M1 to M6).

    Symbols (Smith et al. 2021, arXiv 2101.12176): ω parameters; C the loss, Ĉ_k the loss of minibatch k of m;
    ε the learning rate; n-step SGD takes n updates of the bare rate α = ε/n on each minibatch; C̃ the modified
    loss C + (α/4m) Σ_k ‖∇Ĉ_k‖² (Eqs 1, 20, 39). Distances after one epoch are fitted as ε to a power.

    Args:
        m: minibatches per epoch; all m! orders are enumerated up to 6.
        batch_size: examples per minibatch, B.
        largest_lr: the largest ε on the network with normal data; the others are halvings of it.
        largest_lr_images: the largest ε on Fashion-MNIST.
        halvings: how many halvings of the largest ε.
        n_steps: the n of n-step SGD (M6).
        order_pairs: sample this many forward/reversed pairs of orders instead of enumerating (for m > 6).
        inputs: input dimension of the network on normal data.
        init_scale: of the initial weights, whose variance is init_scale²/fan-in.
        seed: of data, start and sampled orders.
    """

    m: int = 4
    batch_size: int = 4
    largest_lr: float = 2.0**-7
    largest_lr_images: float = 2.0**-4
    halvings: int = 5
    n_steps: list[int] = field(default_factory=lambda: [1, 2, 4])
    order_pairs: int | None = None
    inputs: int = 3
    init_scale: float = 0.7
    seed: int = FIRST


SLOPE_TOLERANCE = 0.1
_IDENTITY_TOLERANCE = 1e-12
_IDENTITY_EXAMPLES = 10
_STATEMENTS = {
    "M1": "mean iterate over orders,",
    "M2": "iterates of one epoch,",
    "M3": "an epoch then its reverse,",
    "M4": "gradient descent,",
    "M6": "n-step SGD,",
}


def measure_flow(o: Options, workshop: Workshop) -> Evidence:
    """Tables ``slopes`` and ``identities``."""
    if o.halvings < 1:
        raise UserError(f"halvings = {o.halvings}: a slope needs at least one")
    if not o.n_steps or min(o.n_steps) < 1:
        raise UserError(f"n_steps = {o.n_steps}: n-step SGD takes 1 or more updates per minibatch")
    orders = theory.orders_for(o.m, o.order_pairs, o.seed)
    problems, evidence = _problems(o, workshop.data), Evidence(seeds=str(o.seed))
    total, done = len(problems) * (o.halvings + 1), 0

    def advance() -> None:
        nonlocal done
        done += 1
        workshop.progress("flows and epochs", done, total)

    for problem, largest in problems:
        lrs = [largest * 2.0**-k for k in range(o.halvings + 1)]
        curves = theory.slope_curves(problem.minibatches, problem.start, lrs, orders, o.n_steps, advance)
        evidence.tables.setdefault("slopes", []).extend(_slope_rows(problem.name, curves))
        evidence.findings += [_slope_finding(problem.name, curve) for curve in curves]
        _add_identities(evidence, problem)
    if len(problems) == 1:
        evidence.notes.append("Fashion-MNIST left out: no data folder (--data or SGDLIT_DATA)")
    return evidence


def _problems(o: Options, data: Path | None) -> "list[tuple[Problem, float]]":
    problems = [(theory.random_regression(o.m, o.batch_size, o.inputs, o.init_scale, o.seed), o.largest_lr)]
    if data is not None:
        images = theory.fashion_mnist(data, o.m, o.batch_size, o.init_scale, o.seed)
        problems.append((images, o.largest_lr_images))
    for problem, lr in problems:
        curvature = theory.largest_curvature(theory.mean_loss(problem.minibatches), problem.start)
        if not 0 < lr * abs(curvature) < 1:
            raise UserError(
                f"largest_lr = {lr} on {problem.name}: must lie above 0 and well below "
                f"{1 / abs(curvature):.3g}, one over the largest curvature of C at the start: the powers are "
                "those of ε → 0"
            )
    return problems


def _slope_rows(name: str, curves: "list[SlopeCurve]") -> list[Row]:
    return [
        {"problem": name, "claim": c.claim, "label": c.label, "slope": c.slope, "lr": lr, "distance": d}
        for c in curves
        for lr, d in zip(c.lrs, c.distances, strict=True)
    ]


def _slope_finding(name: str, curve: "SlopeCurve") -> Finding:
    found = curve.fitted_slope()
    statement = f"{name}: {_STATEMENTS[curve.claim]} {curve.label}, as a power of ε"
    holds = abs(found - curve.slope) <= SLOPE_TOLERANCE
    predicted = f"{curve.slope} ± {SLOPE_TOLERANCE}"
    return Finding(curve.claim, statement, predicted, f"{found:.3f}", holds, EXACT)


def _add_identities(evidence: Evidence, problem: "Problem") -> None:
    examples = problem.examples[:_IDENTITY_EXAMPLES]
    differences = theory.penalty_identities(examples, problem.start, range(1, len(examples) + 1))
    for equation, difference in differences.items():
        evidence.tables.setdefault("identities", []).append(
            {"problem": problem.name, "equation": equation, "relative_difference": difference}
        )
        statement = f"{problem.name}: the two sides of {equation} differ by, relative"
        predicted, holds = f"≤ {_IDENTITY_TOLERANCE:.0e}", difference <= _IDENTITY_TOLERANCE
        evidence.findings.append(Finding("M5", statement, predicted, f"{difference:.1e}", holds, EXACT))


_TITLES = {
    "M1": "M1, M2: one epoch of SGD, all orders",
    "M3": "M3: an epoch, then its reverse",
    "M4": "M4: gradient descent",
    "M6": "M6: n-step SGD, α = ε/n",
}


def draw_flow(tables: Tables) -> "dict[str, Figure]":
    """Distance over learning rate, a row of panels per problem: points measured, lines of theory."""
    rows = tables["slopes"]
    problems = distinct(rows, "problem")
    figure, axes = panels(len(problems), len(_TITLES), width=3.9, height=3.9)
    for place, ax in enumerate(axes):
        problem, claim = problems[place // len(_TITLES)], list(_TITLES)[place % len(_TITLES)]
        here = select(rows, problem=problem, claim=claim)
        here += select(rows, problem=problem, claim="M2") if claim == "M1" else []
        for i, label in enumerate(distinct(here, "label")):
            _draw_slope(ax, select(here, label=label), label, i)
        title = f"{_TITLES[claim]}\n({problem})"
        finish(ax, title, "learning rate ε", "distance in parameters", legend=False)
        ax.legend(fontsize=7.5, loc="upper center", bbox_to_anchor=(0.5, -0.2), frameon=False)
        binary_ticks(ax, distinct(here, "lr"))
    return {"slopes": figure}


def _draw_slope(ax: "Axes", rows: Sequence[Row], label: str, i: int) -> None:
    lr, distance = (np.array([row[key] for row in rows]) for key in ("lr", "distance"))
    slope, color, finest = rows[0]["slope"], COLORS[i], np.argmin(lr)
    ax.plot(lr, distance, MARKERS[i], color=color, markersize=5, label=f"{label} (line: slope {slope})")
    ax.plot(lr, distance[finest] * (lr / lr[finest]) ** slope, color=color, linewidth=1)


_FLOW_QUICK = (
    "m = 3, all orders, a tanh network on normal data (and Fashion-MNIST), five halvings of ε from 2⁻⁷ "
    "(2⁻⁴), where powers show: over 2⁻³ to 2⁻⁹, on normal data, M1's fits are 2.63 and 1.70"
)
_FLOW_FULL = "the same with m = 4 and n = 1, 2, 4"


def _flow_claim(identity: str, statement: str, equation: str, prediction: str) -> Claim:
    return Claim(identity, statement, f"{SOURCE}, {equation}", "exact", prediction, _FLOW_QUICK, _FLOW_FULL)


FLOW = Experiment(
    "flow",
    (
        _flow_claim(
            "M1",
            "the mean iterate over orders follows gradient flow on the modified loss",
            "Eqs 1, 18–20",
            "distance after an epoch ~ ε³, to flow on C ~ ε²",
        ),
        _flow_claim("M2", "iterates of different orders lie ε² apart", "Eq 13", "spread ~ ε²"),
        _flow_claim(
            "M3",
            "an epoch and its reverse follow the modified loss in a single order",
            "Eq 15",
            "distance ~ ε³, to flow on C ~ ε²",
        ),
        _flow_claim(
            "M4",
            "gradient descent follows flow on C + ε/4 ‖∇C‖²",
            "Eq 11",
            "distance ~ ε³, to flow on C ~ ε²",
        ),
        _flow_claim(
            "M5",
            "mean square norms of minibatch gradients split into mean and spread",
            "Eqs 2 and 22",
            "both sides equal to 1e-12",
        ),
        _flow_claim(
            "M6",
            "n-step SGD follows the modified loss with the bare rate α = ε/n",
            "Eq 39",
            "distance ~ ε³ with α, ~ ε² with ε",
        ),
    ),
    measure_flow,
    draw_flow,
)
