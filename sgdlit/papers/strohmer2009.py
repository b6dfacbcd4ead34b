"""Strohmer & Vershynin 2009: randomized Kaczmarz converges exponentially, and stops at a floor with noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sgdlit import theory
from sgdlit.figures.style import COLORS, MARKERS, distinct, finish, panels, select
from sgdlit.foundations.errors import UserError
from sgdlit.foundations.intervals import mean_and_error
from sgdlit.papers.claim import Claim, Finding
from sgdlit.papers.paper import Evidence, Experiment, Paper, Row, Tables, Workshop
from sgdlit.papers.support.fresh_seeds import FIRST

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass
class Options:
    """Randomized Kaczmarz on a Gaussian system (G13).

    Symbols (Strohmer & Vershynin 2009; F11): A the N × D matrix of equations Aw = t, drawn ∝ ‖a_i‖²;
    E‖w_k − w_*‖² ≤ (1 − σ_min²(A)/‖A‖_F²)ᵏ ‖w_0 − w_*‖².

    Args:
        rows: N.
        columns: D.
        steps: of Kaczmarz.
        runs: independent runs.
        label_variance: of the noise in t where it is noisy.
        seed: of all draws.
    """

    rows: int = 400
    columns: int = 50
    steps: int = 1500
    runs: int = 200
    label_variance: float = 0.1
    seed: int = FIRST


def measure(o: Options, workshop: Workshop) -> Evidence:
    """Table ``kaczmarz``: clean labels within the bound and exponential; noisy labels stop at a floor."""
    for name, value in {"columns": 1, "rows": o.columns, "steps": 1, "runs": 2, "label_variance": 0}.items():
        if vars(o)[name] < value:
            raise UserError(f"{name} = {vars(o)[name]}: must be at least {value}")
    draw = theory.normal_matrix
    a = draw(o.seed, "kaczmarz-rows", o.rows, o.columns)
    solution = draw(o.seed, "kaczmarz-solution", 1, o.columns)[0]
    noise = np.sqrt(o.label_variance) * draw(o.seed, "kaczmarz-labels", o.rows, 1)[:, 0]
    factor, begin = theory.contraction(a), np.zeros(o.columns)
    record = np.unique(np.linspace(0, o.steps, 31).astype(int))
    rows: list[Row] = []
    for i, (labels, extra) in enumerate((("clean", 0.0), ("noisy", noise))):
        squares = theory.kaczmarz(a, a @ solution + extra, begin, solution, o.steps, o.runs, o.seed)[record]
        mean, error = mean_and_error(squares)
        rows += [
            {"labels": labels, "step": int(k), "mean": float(m), "standard_error": float(e),
             "bound": float(b)}
            for k, m, e, b in zip(record, mean, error, mean[0] * factor**record, strict=True)
        ]  # fmt: skip
        workshop.progress("systems", i + 1, 2)
    evidence = Evidence({"kaczmarz": rows})
    clean, noisy = ([r for r in rows if r["labels"] == kind] for kind in ("clean", "noisy"))
    ratio = max(r["mean"] / r["bound"] for r in clean if r["step"] > 0)
    statement = "Kaczmarz, clean labels: largest ratio of E‖w − w*‖² to the bound of F11"
    interval = f"none: a bound is met by means of {o.runs} runs with room"
    evidence.findings.append(Finding("G13", statement, "≤ 1", f"{ratio:.3f}", ratio <= 1 + 1e-12, interval))
    if o.label_variance == 0:
        evidence.notes.append("Kaczmarz: label_variance is 0, so there is no floor to look for")
        return evidence
    floor = noisy[-1]["mean"] / clean[-1]["mean"]
    statement = "Kaczmarz: E‖w − w*‖² at the end, noisy labels over clean ones"
    interval = "none: orders of magnitude"
    evidence.findings.append(
        Finding("G13", statement, "> 100: a floor", f"{floor:.3g}", floor > 100, interval)
    )
    return evidence


def draw(tables: Tables) -> dict[str, Figure]:
    """Mean squared distance over steps, clean and noisy, and the bound."""
    figure, (ax,) = panels(1, 1, width=4.6, height=3.7)
    for i, labels in enumerate(distinct(tables["kaczmarz"], "labels")):
        here = select(tables["kaczmarz"], labels=labels)
        ax.errorbar(
            [r["step"] for r in here], [r["mean"] for r in here], [2 * r["standard_error"] for r in here],
            fmt=MARKERS[i], color=COLORS[i], markersize=3.5, capsize=2, linewidth=1,
            label=f"{labels} labels, simulated ± 2 s.e.",
        )  # fmt: skip
    clean = select(tables["kaczmarz"], labels="clean")
    x, y = [r["step"] for r in clean], [r["bound"] for r in clean]
    ax.plot(x, y, color=COLORS[0], label="bound, clean (F11)")
    finish(ax, "randomized Kaczmarz (G13)", "step", "E‖w − w*‖²", log="y")
    return {"kaczmarz": figure}


PAPER = Paper(
    "strohmer2009",
    "Strohmer & Vershynin 2009, A randomized Kaczmarz algorithm with exponential convergence",
    (
        Experiment(
            "kaczmarz",
            (
                Claim(
                    "G13",
                    "randomized Kaczmarz converges exponentially on clean equations, noise leaves a floor",
                    "Strohmer & Vershynin 2009; F11",
                    "simulated",
                    "means within the bound; with noise 100 times as far away at the end",
                    "400 runs of 1000 steps on 400 × 50 equations",
                    "200 runs of 1500 steps on 400 × 50 equations",
                ),
            ),
            measure,
            draw,
        ),
    ),
    Options,
    {"runs": 400, "steps": 1000},
)
