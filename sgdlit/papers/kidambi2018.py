"""Kidambi et al. 2018: momentum does not speed up stochastic least squares; accelerated SGD does."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from sgdlit.figures.style import COLORS, MARKERS, distinct, finish, panels, select
from sgdlit.foundations.errors import UserError
from sgdlit.papers.claim import Claim, Finding
from sgdlit.papers.paper import Evidence, Experiment, Paper, Row, Tables, Workshop
from sgdlit.theory import kidambi

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass
class Options:
    """Momentum on the two-dimensional discrete instance (G15).

    Symbols (Kidambi et al., arXiv 1803.05591): κ the ratio of the two eigenvalues, c = E z⁴/2.

    Args:
        conditions: κ.
        spread: c.
    """

    conditions: list[float] = field(default_factory=lambda: [64.0, 256.0, 1024.0, 4096.0])
    spread: float = 5.0


_METHODS = {
    "SGD": kidambi.best_sgd,
    "heavy ball": lambda p: kidambi.best_momentum(p, kidambi.heavy_ball_step),
    "Nesterov": lambda p: kidambi.best_momentum(p, kidambi.nesterov_step),
    "accelerated SGD": kidambi.best_accelerated,
}


def measure(o: Options, workshop: Workshop) -> Evidence:
    """Table ``momentum``: steps per factor e at the best settings, over the condition number."""
    if not o.conditions:
        raise UserError("conditions is empty: at least one is needed")
    problems = [kidambi.Discrete(condition, o.spread) for condition in sorted(o.conditions)]
    evidence = Evidence()
    rows: list[Row] = []
    for i, problem in enumerate(problems):
        for name, best in _METHODS.items():
            steps = float(-1 / np.log(best(problem)))
            rows.append({"method": name, "condition": problem.condition, "steps": steps})
        workshop.progress("conditions", i + 1, len(problems))
    evidence.tables["momentum"] = rows
    if len(problems) < 2:
        evidence.notes.append("momentum: a power of κ needs at least two conditions")
        return evidence
    for name in _METHODS:
        mine = [r for r in rows if r["method"] == name]
        power = np.polyfit(np.log([r["condition"] for r in mine]), np.log([r["steps"] for r in mine]), 1)[0]
        accelerated = name == "accelerated SGD"
        predicted = "≤ 0.6" if accelerated else "1 ± 0.15"
        holds = bool(power <= 0.6 if accelerated else abs(power - 1) <= 0.15)
        statement = f"{name}: steps to contract as a power of κ, best settings"
        interval = "none: exact, at the best of a grid of settings"
        evidence.findings.append(Finding("G15", statement, predicted, f"{power:.2f}", holds, interval))
    return evidence


def draw(tables: Tables) -> dict[str, Figure]:
    """Steps over the condition number, and √κ."""
    rows = tables["momentum"]
    figure, (ax,) = panels(1, 1, width=4.6, height=3.7)
    for i, method in enumerate(distinct(rows, "method")):
        here = select(rows, method=method)
        ax.plot(
            [r["condition"] for r in here], [r["steps"] for r in here], color=COLORS[i], marker=MARKERS[i],
            markersize=4, linewidth=1.2, label=f"{method}, best settings",
        )  # fmt: skip
    x = distinct(rows, "condition")
    ax.plot(x, [rows[-1]["steps"] * (k / x[-1]) ** 0.5 for k in x], "k--", linewidth=1, label="∝ √κ")
    finish(ax, "momentum, discrete instance (G15)", "condition number κ", "steps per factor e")
    return {"momentum": figure}


PAPER = Paper(
    "kidambi2018",
    "Kidambi et al. 2018, On the insufficiency of existing momentum schemes, arXiv 1803.05591",
    (
        Experiment(
            "momentum",
            (
                Claim(
                    "G15",
                    "with clean stochastic gradients only accelerated SGD needs √κ steps, momentum needs κ",
                    "Kidambi et al. 2018, arXiv 1803.05591, section 3",
                    "exact",
                    "powers of κ of 1 ± 0.15, and at most 0.6 for accelerated SGD",
                    "the two-dimensional discrete instance at κ = 128 and 2048",
                    "the same at κ = 64, 256, 1024 and 4096",
                ),
            ),
            measure,
            draw,
        ),
    ),
    Options,
    {"conditions": [128.0, 2048.0]},
)
