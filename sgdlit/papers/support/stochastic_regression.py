"""Stochastic linear regression (F10): covariance of gradients and risk of SGD, beside simulation (G12)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sgdlit import theory
from sgdlit.data.spectra import power_law
from sgdlit.figures.style import COLORS, MARKERS, distinct, finish, panels, select
from sgdlit.foundations.errors import UserError
from sgdlit.foundations.intervals import distance_in_errors, error_limit, mean_and_error
from sgdlit.papers.claim import IN_ERRORS, Finding
from sgdlit.papers.paper import Evidence, Row, Tables, Workshop
from sgdlit.papers.support.fresh_seeds import FIRST

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass
class RegressionOptions:
    """G12: stochastic linear regression.

    Args:
        dimensions: D of the regression whose risk is followed.
        exponent: of its power-law spectrum; an isotropic one is drawn beside it.
        lr_share: α as a share of the largest stable rate.
        batch_size: B.
        label_variance: σ² where labels are noisy.
        steps: of SGD.
        runs: independent runs of the simulation.
        covariance_samples: examples from which the gradient covariance is measured.
        seed: of all draws.
    """

    dimensions: int = 20
    exponent: float = 1.0
    lr_share: float = 0.3
    batch_size: int = 4
    label_variance: float = 0.1
    steps: int = 300
    runs: int = 200
    covariance_samples: int = 200_000
    seed: int = FIRST


_COVARIANCE_DIMENSIONS = 4


def measure_regression(o: RegressionOptions, workshop: Workshop) -> Evidence:
    """Tables ``covariance`` and ``risk``."""
    evidence = Evidence(seeds=str(o.seed))
    least = {"dimensions": 1, "batch_size": 1, "steps": 1, "runs": 2, "covariance_samples": 2}
    for name, value in least.items():
        if vars(o)[name] < value:
            raise UserError(f"{name} = {vars(o)[name]}: must be at least {value}")
    if not 0 < o.lr_share < 1:
        raise UserError(f"lr_share = {o.lr_share}: must lie above 0 and below 1, the largest stable rate")
    if o.label_variance < 0:
        raise UserError(f"label_variance = {o.label_variance}: must be >= 0")
    for i, part in enumerate((_add_covariance, _add_risk)):
        part(evidence, o)
        workshop.progress("regression", i + 1, 2)
    return evidence


def _add_covariance(evidence: Evidence, o: RegressionOptions) -> None:
    """F10 against the sample covariance of gradients, away from w_* and at it."""
    d, draw, n = _COVARIANCE_DIMENSIONS, theory.normal_matrix, o.covariance_samples
    mixing = draw(o.seed, "covariance", d, d)
    sigma = mixing @ mixing.T / d
    x = draw(o.seed, "covariance-inputs", n, d) @ np.linalg.cholesky(sigma).T
    noise = np.sqrt(o.label_variance) * draw(o.seed, "covariance-labels", n, 1)[:, 0]
    rows = []
    for place, delta in (("away from w*", np.ones(d)), ("at w*", np.zeros(d))):
        predicted = theory.gradient_covariance(sigma, delta, o.label_variance)
        gradients = -(x @ delta + noise)[:, None] * x
        centred = gradients - gradients.mean(0)
        for i in range(d):
            for j in range(i, d):
                mean, error = mean_and_error(centred[:, i] * centred[:, j])
                rows.append(
                    {"place": place, "entry": f"{i},{j}", "predicted": float(predicted[i, j]),
                     "measured": float(mean), "standard_error": float(error)}
                )  # fmt: skip
        here = [r for r in rows if r["place"] == place]
        statement = (
            f"Cov(g) {place}: largest distance from F10 over its {len(here)} entries, in standard errors"
        )
        evidence.findings.append(_agreement(statement, here, "predicted", n))
    evidence.tables["covariance"] = rows


def _add_risk(evidence: Evidence, o: RegressionOptions) -> None:
    """The exact risk of SGD beside simulated runs, isotropic and power law, clean and noisy labels."""
    rows: list[Row] = []
    record = np.unique(np.linspace(0, o.steps, 25).astype(int))
    for name, exponent in (("isotropic", 0.0), (f"power law i^−{o.exponent:g}", o.exponent)):
        spectrum = power_law(o.dimensions, exponent)
        lr = o.lr_share * theory.largest_stable_lr(spectrum, o.batch_size)
        for variance in sorted({0.0, o.label_variance}):
            model, start = (
                theory.GaussianRegression(spectrum, lr, o.batch_size, variance),
                np.ones(o.dimensions),
            )
            exact = model.risk(start**2, record)
            simulated = theory.simulate_regression(model, start, o.steps, o.runs, o.seed)
            mean, error = mean_and_error(simulated[record])
            rows += [
                {"curve": f"{name}, σ² = {variance:g}", "step": int(k), "theory": float(t),
                 "measured": float(m), "standard_error": float(e)}
                for k, t, m, e in zip(record, exact, mean, error, strict=True)
            ]  # fmt: skip
    evidence.tables["risk"] = rows
    # Rare large values carry the mean of clean runs at late steps, which no number of runs here would see.
    noisy = [r for r in rows if not r["curve"].endswith("= 0")]
    if not noisy:
        evidence.notes.append("risk: label_variance is 0, so only clean curves are drawn, without a claim")
        return
    statement = (
        f"risk of SGD, noisy labels: largest distance of {o.runs} runs from theory, in standard errors"
    )
    evidence.findings.append(_agreement(statement, noisy, "theory", o.runs))


def _agreement(statement: str, rows: list[Row], predicted: str, runs: int) -> Finding:
    """That the means of ``runs`` runs lie within their errors of theory."""
    mean, error, exact = (
        np.array([r[key] for r in rows]) for key in ("measured", "standard_error", predicted)
    )
    worst, limit = distance_in_errors(mean, error, exact), error_limit(runs)
    return Finding("G12", statement, f"< {limit:.2f}", f"{worst:.2f}", worst < limit, IN_ERRORS)


def draw_regression(tables: Tables) -> dict[str, Figure]:
    """Left the gradient covariance, right the risk of SGD."""
    figure, (left, right) = panels(1, 2, width=4.6, height=3.7)
    covariance, risk = tables["covariance"], tables["risk"]
    ends = [min(r["predicted"] for r in covariance), max(r["predicted"] for r in covariance)]
    left.plot(ends, ends, color="black", linewidth=1, label="F10 (identity)")
    for i, place in enumerate(distinct(covariance, "place")):
        _draw_errors(left, select(covariance, place=place), "predicted", i, f"{place}, ± 2 s.e.")
    finish(
        left, "gradient covariance (G12)", "entry of Cov(g), predicted", "entry of Cov(g), measured", log=""
    )
    for i, curve in enumerate(distinct(risk, "curve")):
        here = select(risk, curve=curve)
        right.plot(
            [r["step"] for r in here],
            [r["theory"] for r in here],
            color=COLORS[i],
            linewidth=1.2,
            label=curve,
        )
        _draw_errors(right, here, "step", i, "_nolegend_")
    finish(right, "exact risk of SGD; points: simulated ± 2 s.e.", "step", "excess risk", log="y")
    right.set_ylim(bottom=max(1e-12, 0.5 * min(r["theory"] for r in risk)))
    return {"regression": figure}


def _draw_errors(ax: Axes, rows: Sequence[Row], x: str, i: int, label: str) -> None:
    ax.errorbar(
        [r[x] for r in rows], [r["measured"] for r in rows], [2 * r["standard_error"] for r in rows],
        fmt=MARKERS[i], color=COLORS[i], markersize=3.5, capsize=2, linewidth=1, label=label,
    )  # fmt: skip
