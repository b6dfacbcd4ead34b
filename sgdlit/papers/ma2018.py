"""Ma, Bassily & Belkin 2018: under interpolation a batch is worth its size up to b*, hardly more beyond."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sgdlit import theory
from sgdlit.data.spectra import power_law
from sgdlit.figures.style import COLORS, MARKERS, finish, panels
from sgdlit.foundations.errors import UserError
from sgdlit.papers.claim import EXACT, Claim, Finding
from sgdlit.papers.paper import Evidence, Experiment, Paper, Tables, Workshop
from sgdlit.papers.support.fresh_seeds import FIRST

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass
class Options:
    """SGD on least squares that fits its examples exactly (G14).

    Symbols (Ma, Bassily & Belkin, arXiv 1712.06559; F12): λ₁ and λ_n the extreme eigenvalues of
    H = (1/N) Σ x_i x_iᵀ, β₀ = max_i ‖x_i‖², b the batch size, η*(b) = b/(β₀ + (b − 1)λ₁), b* = β₀/λ₁ + 1.

    Args:
        examples: N.
        weights: D (an eigenvalue problem of size D² is solved).
        seed: of the examples.
    """

    examples: int = 60
    weights: int = 8
    seed: int = FIRST


def measure(o: Options, workshop: Workshop) -> Evidence:
    """Table ``interpolation``: steps by the bound and exactly."""
    for name, value in {"weights": 1, "examples": o.weights}.items():
        if vars(o)[name] < value:
            raise UserError(f"{name} = {vars(o)[name]}: must be at least {value}")
    spectrum = np.sqrt(power_law(o.weights, 0.5))
    inputs = theory.normal_matrix(o.seed, "interpolation", o.examples, o.weights) * spectrum
    problem, rows = theory.Interpolation(inputs), []
    for k in range(11):
        b = 2.0**k
        lr, factor = problem.best_exact(b)
        at_theory = problem.exact_factor(b, problem.best_lr(b))
        rows.append(
            {"batch_size": b, "bound": _steps_per_e(problem.bound(b)), "exact_best": _steps_per_e(factor),
             "at_best_rate_of_bound": _steps_per_e(at_theory), "lr_of_bound": problem.best_lr(b),
             "exact_best_lr": lr}
        )  # fmt: skip
        workshop.progress("batch sizes", k + 1, 11)
    evidence = Evidence({"interpolation": rows})
    evidence.notes.append(f"interpolation: critical batch size b* = {problem.critical_batch:.2f}")
    held = all(r["at_best_rate_of_bound"] <= r["bound"] * (1 + 1e-9) for r in rows)
    below = [r for r in rows if r["batch_size"] <= problem.critical_batch]
    gain = min(rows[0]["exact_best"] / r["exact_best"] / r["batch_size"] for r in below)
    far = [r for r in rows if r["batch_size"] >= 4 * problem.critical_batch]
    rest, more = far[0]["exact_best"] / far[-1]["exact_best"], far[-1]["batch_size"] / far[0]["batch_size"]
    found = "yes" if held else "no"
    bound = "interpolation: steps at η*(b) are within the bound of F12 at every b"
    speed = "speed-up by b at the best rates, over b, for b ≤ b*: least"
    saturation = f"speed-up by another {more:g}× in b beyond 4b*"
    evidence.findings = [
        Finding("G14", bound, "yes", found, held, EXACT),
        Finding("G14", speed, "≥ 0.5", f"{gain:.2f}", gain >= 0.5, EXACT),
        Finding("G14", saturation, "< 1.5", f"{rest:.2f}", rest < 1.5, EXACT),
    ]
    return evidence


def _steps_per_e(factor: float) -> float:
    """Steps in which a mean square falls by the factor e."""
    return float(-1 / np.log(factor))


def draw(tables: Tables) -> dict[str, Figure]:
    """Steps over the batch size: the bound, exact, and perfect scaling."""
    rows = tables["interpolation"]
    figure, (ax,) = panels(1, 1, width=4.6, height=3.7)
    sizes = [r["batch_size"] for r in rows]
    curves = (
        ("bound", "bound at η*(b) (F12)"),
        ("at_best_rate_of_bound", "exact at η*(b)"),
        ("exact_best", "exact at the best rate"),
    )
    for i, (column, label) in enumerate(curves):
        y = [r[column] for r in rows]
        ax.plot(sizes, y, color=COLORS[i], marker=MARKERS[i], markersize=3.5, label=label)
    ax.plot(sizes, [rows[0]["exact_best"] / b for b in sizes], "k--", linewidth=1, label="perfect scaling")
    title = "interpolation: scaling, then saturation (G14)"
    finish(ax, title, "batch size b (examples)", "steps per factor e")
    ax.set_ylim(bottom=0.5 * min(r["exact_best"] for r in rows))
    return {"interpolation": figure}


_PROTOCOL = "least squares with 60 examples and 8 weights, b = 1 … 1024"

PAPER = Paper(
    "ma2018",
    "Ma, Bassily & Belkin 2018, The power of interpolation, arXiv 1712.06559",
    (
        Experiment(
            "interpolation",
            (
                Claim(
                    "G14",
                    "linear scaling up to b* = β₀/λ₁ + 1, saturation beyond",
                    "Ma, Bassily & Belkin 2018, arXiv 1712.06559; F12",
                    "exact",
                    "at least half of perfect scaling up to b*, less than 1.5 times beyond 4b*",
                    _PROTOCOL,
                    _PROTOCOL,
                ),
            ),
            measure,
            draw,
        ),
    ),
    Options,
)
