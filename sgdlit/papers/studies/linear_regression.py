"""The study of linear regression: gradient noise, Kaczmarz, interpolation, momentum (G12–G15)."""

from collections.abc import Callable

import numpy as np
import torch

from sgdlit.data.spectra import power_law
from sgdlit.foundations.errors import UserError
from sgdlit.foundations.intervals import distance_in_errors, error_limit, mean_and_error
from sgdlit.foundations.philox import derive_key, normal
from sgdlit.papers.claim import Claim
from sgdlit.papers.studies.options import LinearRegressionOptions
from sgdlit.papers.studies.study import Progress, Row, Study, silent
from sgdlit.theory import kidambi
from sgdlit.theory import randomized_kaczmarz as kz
from sgdlit.theory.interpolation import Interpolation
from sgdlit.theory.linear_regression import (
    GaussianRegression,
    gradient_covariance,
    largest_stable_rate,
    simulate_regression,
)

_COVARIANCE_DIMENSIONS = 4


def run(options: LinearRegressionOptions, progress: Progress = silent) -> Study:
    """All of it; tables ``covariance``, ``risk``, ``kaczmarz``, ``interpolation`` and ``momentum``."""
    _check(options)
    problems = [kidambi.Discrete(condition, options.spread) for condition in sorted(options.conditions)]
    study, parts = Study(), (_covariance, _risk, _kaczmarz, _interpolation)
    total = len(parts) + len(problems)
    for i, part in enumerate(parts):
        part(study, options)
        progress("regression", i + 1, total)
    _momentum(study, problems, lambda i: progress("regression", len(parts) + i, total))
    return study


def _check(o: LinearRegressionOptions) -> None:
    least = {"dimensions": 1, "batch_size": 1, "steps": 1, "runs": 2, "covariance_samples": 2, "columns": 1}
    least |= {"rows": o.columns, "kaczmarz_steps": 1, "weights": 1, "examples": o.weights}
    for name, value in least.items():
        if getattr(o, name) < value:
            raise UserError(f"{name} = {getattr(o, name)}: must be at least {value}")
    if not 0 < o.lr_share < 1:
        raise UserError(f"lr_share = {o.lr_share}: must lie above 0 and below 1, the largest stable rate")
    if not o.conditions or o.label_variance < 0:
        raise UserError(
            f"conditions = {o.conditions}, label_variance = {o.label_variance}: must hold one, and be >= 0"
        )


def _draw(o: LinearRegressionOptions, purpose: str, rows: int, columns: int) -> np.ndarray:
    key = derive_key(o.seed, f"theory/{purpose}")
    return normal(key, torch.arange(rows), columns, dtype=torch.float64).numpy()


def _covariance(study: Study, o: LinearRegressionOptions) -> None:
    """G12: F10 against the sample covariance of gradients, away from w_* and at it."""
    d = _COVARIANCE_DIMENSIONS
    mixing = _draw(o, "covariance", d, d)
    sigma = mixing @ mixing.T / d
    x = _draw(o, "covariance-inputs", o.covariance_samples, d) @ np.linalg.cholesky(sigma).T
    noise = np.sqrt(o.label_variance) * _draw(o, "covariance-labels", o.covariance_samples, 1)[:, 0]
    rows = []
    for place, delta in (("away from w*", np.ones(d)), ("at w*", np.zeros(d))):
        predicted = gradient_covariance(sigma, delta, o.label_variance)
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
        study.claims.append(_agreement(statement, here, "predicted", o.covariance_samples))
    study.tables["covariance"] = rows


def _agreement(statement: str, rows: list[Row], predicted: str, runs: int) -> Claim:
    """G12: that the means of ``runs`` runs lie within their errors of theory."""
    columns = ([r[key] for r in rows] for key in ("measured", "standard_error", predicted))
    worst, limit = distance_in_errors(*columns), error_limit(runs)
    return Claim("G12", statement, f"< {limit:.2f}", f"{worst:.2f}", worst < limit)


def _risk(study: Study, o: LinearRegressionOptions) -> None:
    """The exact risk of SGD beside simulated runs, isotropic and power law, clean and noisy labels."""
    rows = []
    record = np.unique(np.linspace(0, o.steps, 25).astype(int))
    for name, exponent in (("isotropic", 0.0), (f"power law i^−{o.exponent:g}", o.exponent)):
        spectrum = power_law(o.dimensions, exponent)
        lr = o.lr_share * largest_stable_rate(spectrum, o.batch_size)
        for variance in sorted({0.0, o.label_variance}):
            model = GaussianRegression(spectrum, lr, o.batch_size, variance)
            start = np.ones(o.dimensions)
            theory = model.risk(start**2, record)
            mean, error = mean_and_error(simulate_regression(model, start, o.steps, o.runs, o.seed)[record])
            curve = f"{name}, σ² = {variance:g}"
            rows += [
                {
                    "curve": curve,
                    "step": int(k),
                    "theory": float(t),
                    "measured": float(m),
                    "standard_error": float(e),
                }
                for k, t, m, e in zip(record, theory, mean, error, strict=True)
            ]
    study.tables["risk"] = rows
    # Rare large values carry the mean of clean runs at late steps, which no number of runs here would see.
    noisy = [r for r in rows if not r["curve"].endswith("= 0")]
    if not noisy:
        study.notes.append("risk: label_variance is 0, so only clean curves are drawn, without a claim")
        return
    statement = (
        f"risk of SGD, noisy labels: largest distance of {o.runs} runs from theory, in standard errors"
    )
    study.claims.append(_agreement(statement, noisy, "theory", o.runs))


def _kaczmarz(study: Study, o: LinearRegressionOptions) -> None:
    """G13: clean labels within the bound and exponential; noisy labels stop at a floor."""
    a, solution = _draw(o, "kaczmarz-rows", o.rows, o.columns), _draw(o, "kaczmarz-solution", 1, o.columns)[0]
    noise = np.sqrt(o.label_variance) * _draw(o, "kaczmarz-labels", o.rows, 1)[:, 0]
    factor, begin = kz.contraction(a), np.zeros(o.columns)
    record, rows = np.unique(np.linspace(0, o.kaczmarz_steps, 31).astype(int)), []
    for labels, extra in (("clean", 0.0), ("noisy", noise)):
        squares = kz.kaczmarz(a, a @ solution + extra, begin, solution, o.kaczmarz_steps, o.runs, o.seed)[
            record
        ]
        mean, error = mean_and_error(squares)
        bound = mean[0] * factor**record
        rows += [
            {
                "labels": labels,
                "step": int(k),
                "mean": float(m),
                "standard_error": float(e),
                "bound": float(b),
            }
            for k, m, e, b in zip(record, mean, error, bound, strict=True)
        ]
    study.tables["kaczmarz"] = rows
    clean, noisy = ([r for r in rows if r["labels"] == kind] for kind in ("clean", "noisy"))
    ratio = max(r["mean"] / r["bound"] for r in clean if r["step"] > 0)
    statement = "Kaczmarz, clean labels: largest ratio of E‖w − w*‖² to the bound of F11"
    study.claims.append(Claim("G13", statement, "≤ 1", f"{ratio:.3f}", ratio <= 1 + 1e-12))
    if o.label_variance == 0:
        study.notes.append("Kaczmarz: label_variance is 0, so there is no floor to look for")
        return
    floor = noisy[-1]["mean"] / clean[-1]["mean"]
    statement = "Kaczmarz: E‖w − w*‖² at the end, noisy labels over clean ones"
    study.claims.append(Claim("G13", statement, "> 100: a floor", f"{floor:.3g}", floor > 100))


def _interpolation(study: Study, o: LinearRegressionOptions) -> None:
    """G14: steps by the bound and exactly; linear scaling up to b*, saturation beyond."""
    spectrum = np.sqrt(power_law(o.weights, 0.5))
    problem = Interpolation(_draw(o, "interpolation", o.examples, o.weights) * spectrum)
    rows = []
    for b in (2.0**k for k in range(11)):
        lr, factor = problem.best_exact(b)
        at_theory = problem.exact_factor(b, problem.best_rate(b))
        rows.append(
            {"batch_size": b, "bound": _steps_per_e(problem.bound(b)), "exact_best": _steps_per_e(factor),
             "at_best_rate_of_bound": _steps_per_e(at_theory), "lr_of_bound": problem.best_rate(b),
             "exact_best_lr": lr}
        )  # fmt: skip
    study.tables["interpolation"] = rows
    study.notes.append(f"interpolation: critical batch size b* = {problem.critical_batch:.2f}")
    held = all(r["at_best_rate_of_bound"] <= r["bound"] * (1 + 1e-9) for r in rows)
    statement = "interpolation: steps at η*(b) are within the bound of F12 at every b"
    study.claims.append(Claim("G14", statement, "yes", "yes" if held else "no", held))
    below = [r for r in rows if r["batch_size"] <= problem.critical_batch]
    gain = min(rows[0]["exact_best"] / r["exact_best"] / r["batch_size"] for r in below)
    statement = "speed-up by b at the best rates, over b, for b ≤ b*: least"
    study.claims.append(Claim("G14", statement, "≥ 0.5", f"{gain:.2f}", gain >= 0.5))
    far = [r for r in rows if r["batch_size"] >= 4 * problem.critical_batch]
    rest = far[0]["exact_best"] / far[-1]["exact_best"]
    more = far[-1]["batch_size"] / far[0]["batch_size"]
    statement = f"speed-up by another {more:g}× in b beyond 4b*"
    study.claims.append(Claim("G14", statement, "< 1.5", f"{rest:.2f}", rest < 1.5))


def _steps_per_e(factor: float) -> float:
    """Steps in which a mean square falls by the factor e."""
    return float(-1 / np.log(factor))


def _momentum(study: Study, problems: list[kidambi.Discrete], advance: Callable[[int], None]) -> None:
    """G15: steps per factor e at the best settings, over the condition number."""
    methods = {
        "SGD": kidambi.best_sgd,
        "heavy ball": lambda p: kidambi.best_momentum(p, kidambi.heavy_ball_step),
        "Nesterov": lambda p: kidambi.best_momentum(p, kidambi.nesterov_step),
        "accelerated SGD": kidambi.best_accelerated,
    }
    rows = []
    for i, problem in enumerate(problems):
        rows += [
            {"method": name, "condition": problem.condition, "steps": _steps_per_e(best(problem))}
            for name, best in methods.items()
        ]
        advance(i + 1)
    study.tables["momentum"] = rows
    if len(problems) < 2:
        study.notes.append("momentum: a power of κ needs at least two conditions")
        return
    for name in methods:
        mine = [r for r in rows if r["method"] == name]
        power = np.polyfit(np.log([r["condition"] for r in mine]), np.log([r["steps"] for r in mine]), 1)[0]
        accelerated = name == "accelerated SGD"
        predicted = "≤ 0.6" if accelerated else "1 ± 0.15"
        holds = power <= 0.6 if accelerated else abs(power - 1) <= 0.15
        statement = f"{name}: steps to contract as a power of κ, best settings"
        study.claims.append(Claim("G15", statement, predicted, f"{power:.2f}", bool(holds)))
