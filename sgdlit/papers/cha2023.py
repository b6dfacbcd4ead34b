"""Cha et al. 2023, orders of visits: how far from the minimiser SGD stays at a constant rate, by order.

Pitfalls: the exponent of random reshuffling is measured a little below 3 at rates this large; GraB's constant
is compared with the single shuffle's only, since the theory says nothing about reshuffling at a fixed rate.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from sgdlit.figures.style import COLORS, MARKERS, distinct, finish, panels, select
from sgdlit.foundations.errors import UserError
from sgdlit.papers.claim import Claim
from sgdlit.papers.paper import Evidence, Experiment, Paper, Row, Tables, Workshop
from sgdlit.papers.support.seed_findings import in_every_seed, in_the_mean
from sgdlit.papers.support.slopes import log_slope

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_ORDERS = ("with replacement", "single shuffle", "random reshuffling", "GraB")
_EXPONENTS = {
    "with replacement": (1, 0.9, 1.1),
    "single shuffle": (2, 1.9, 2.1),
    "random reshuffling": (3, 2.65, 3.15),
    "GraB": (2, 1.85, 2.15),
}


@dataclass
class Options:
    """SGD with B = 1 on least squares ½(a_i·w − b_i)², from its minimiser w_* on, in four orders of visits.

    Symbols: η the learning rate, n the number of examples, d of weights.

    Args:
        examples: n.
        weights: d.
        runs: SGD runs on each problem.
        problems: one for each seed 0, 1, 2, ...
        lrs: η, each half of the last.
    """

    examples: int = 50
    weights: int = 5
    runs: int = 100
    problems: int = 5
    lrs: list[float] = field(default_factory=lambda: [0.008, 0.004, 0.002, 0.001])


def measure(o: Options, workshop: Workshop) -> Evidence:
    """Table ``distance``: E‖w − w_*‖² at the ends of epochs, by problem, order and η."""
    for name, least in {"examples": o.weights + 1, "weights": 1, "runs": 1, "problems": 2}.items():
        if vars(o)[name] < least:
            raise UserError(f"{name} = {vars(o)[name]}: must be at least {least}")
    from sgdlit.papers.support.visits import distances, problem

    problems = [problem(seed, o.examples, o.weights) for seed in range(o.problems)]
    rows: list[Row] = []
    for k, lr in enumerate(o.lrs):
        squares = distances(problems, lr, o.runs)
        rows += [
            {"problem": p, "order": order, "lr": lr, "distance": float(squares[j, p])}
            for j, order in enumerate(_ORDERS)
            for p in range(o.problems)
        ]
        workshop.progress("rates", k + 1, len(o.lrs))
    return Evidence({"distance": rows}, _findings(o, rows))


def _findings(o: Options, rows: list[Row]) -> list:
    by_order = {
        order: np.array(
            [
                [select(rows, problem=p, order=order, lr=lr)[0]["distance"] for lr in o.lrs]
                for p in range(o.problems)
            ]
        )
        for order in _ORDERS
    }
    findings = []
    for order, (_, low, high) in _EXPONENTS.items():
        claim = "L13c" if order == "GraB" else "L13a"
        slopes = log_slope(np.array(o.lrs), by_order[order])
        findings.append(
            in_the_mean(claim, f"{order}: slope of log E‖w − w_*‖² over log η", slopes, low, high)
        )
    replaced, single, random, grab = (by_order[order][:, -1] for order in _ORDERS)
    at = f"at η = {o.lrs[-1]:g}: E‖w − w_*‖² of"
    return [
        *findings,
        in_every_seed("L13b", f"{at} random reshuffling over the single shuffle's", random / single, 0, 1),
        in_every_seed("L13b", f"{at} the single shuffle over that with replacement", single / replaced, 0, 1),
        in_the_mean(
            "L13c",
            f"{at} GraB over the single shuffle's",
            grab / single,
            0,
            0.2,
            f"over random reshuffling's, of which nothing is claimed: {np.mean(grab / random):.3g}",
        ),
    ]


def draw(tables: Tables) -> dict[str, Figure]:
    """E‖w − w_*‖² over η by order, each problem a point, with the predicted exponents as lines."""
    rows = tables["distance"]
    figure, (ax,) = panels(1, 1, width=5.0, height=3.9)
    lrs = np.array(distinct(rows, "lr"))
    for color, marker, order in zip(COLORS, MARKERS, _ORDERS, strict=False):
        own = select(rows, order=order)
        ax.plot(
            [r["lr"] for r in own],
            [r["distance"] for r in own],
            marker,
            color=color,
            markersize=3.5,
            alpha=0.7,
        )
        means = [np.mean([r["distance"] for r in select(own, lr=lr)]) for lr in lrs]
        exponent = _EXPONENTS[order][0]
        ax.plot(
            lrs,
            means[-1] * (lrs / lrs[-1]) ** exponent,
            color=color,
            linewidth=1,
            label=f"{order}; line ∝ η{'⁰¹²³'[exponent] if exponent > 1 else ''}",
        )
    finish(ax, "distance from the minimiser at constant rate (L13)", "learning rate η", "E‖w − w*‖²")
    return {"orders": figure}


_QUICK = (
    "least squares with 50 examples and 5 weights, B = 1, η = 0.008 … 0.001, 0.5/η + 40 epochs from the "
    "minimiser on, "
    "100 runs on each of 5 problems, mean over the ends of the second half of the epochs"
)
_SOURCE = "Cha, Lee & Yun 2023, arXiv 2303.07160"


def _claim(identity: str, statement: str, source: str, prediction: str) -> Claim:
    return Claim(identity, statement, source, "simulated", prediction, _QUICK, _QUICK)


PAPER = Paper(
    "cha2023",
    "Cha, Lee & Yun 2023, Tighter lower bounds for shuffling SGD, arXiv 2303.07160",
    (
        Experiment(
            "orders",
            (
                _claim(
                    "L13a",
                    "at constant rate E‖w − w_*‖² is of order η with replacement, η² with a single "
                    "shuffle, η³ with "
                    "random reshuffling",
                    _SOURCE,
                    "slopes 1.0 ± 0.1, 2.0 ± 0.1 and 2.65 to 3.15",
                ),
                _claim(
                    "L13b",
                    "at a small rate reshuffling is nearer than a single shuffle, which is nearer than "
                    "drawing with "
                    "replacement",
                    _SOURCE,
                    "in every problem at η = 0.001",
                ),
                _claim(
                    "L13c",
                    "a well-chosen order, GraB, has the single shuffle's exponent with a far smaller "
                    "constant",
                    f"{_SOURCE}; Lu, Guo & De Sa 2022, arXiv 2205.10733",
                    "slope 2.0 ± 0.15, and at η = 0.001 below a fifth of the single shuffle's",
                ),
            ),
            measure,
            draw,
        ),
    ),
    Options,
)
