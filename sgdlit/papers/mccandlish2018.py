"""McCandlish et al. 2018, large-batch training: the noise scale, on a model where everything is known.

On the noisy quadratic the cost is quadratic and the noise of gradients the same everywhere, so that the noise
scale along a run, and what a step of any batch size gains, have closed forms.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from sgdlit.figures.style import COLORS, MARKERS, finish, panels, select
from sgdlit.papers.claim import IN_ERRORS, Claim, Finding
from sgdlit.papers.paper import Evidence, Experiment, NoOptions, Paper, Row, Tables, Workshop
from sgdlit.papers.support.fresh_seeds import axis, fresh_seeds, in_words
from sgdlit.runs.reading import load_run
from sgdlit.theory.draws import numbered_generator

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from sgdlit.runs.reading import Run

_SMALL = [
    "--data.steps=256",
    "--trainer.max_steps=256",
]
_FAR = 4.0  # standard errors
_MEMBERS = f"--ensemble=[{axis(100)}]"

# The noise scale along runs


def measure_runs(o: NoOptions, workshop: Workshop) -> Evidence:
    """Table ``noise_scale``: by step, the measured scale over seeds with its interval, and the exact one."""
    arguments = [_MEMBERS, *(_SMALL if workshop.quick else [])]
    run = load_run(workshop.fit("noise", "noisy_quadratic/noise_scale.yaml", *arguments))
    rows = [_row(run, step) for step in _steps(run)]
    first, last = rows[0], rows[-1]
    far = max(rows, key=lambda row: abs(row["errors"]))
    seeds = len(run.members)
    return Evidence(
        {"noise_scale": rows},
        [
            Finding(
                "NS1", f"largest distance from the exact scale over {len(rows)} steps, in standard errors",
                f"< {_FAR:g}", f"{abs(far['errors']):.2f} at step {far['step']}", abs(far["errors"]) < _FAR,
                IN_ERRORS,
            ),
            Finding(
                "NS2", f"noise scale at the start and after {last['step']} steps, in examples",
                f"{first['exact']:.3g} and {last['exact']:.3g}",
                f"{first['scale']:.3g} and {last['scale']:.3g}",
                last["low"] > first["high"],
                f"{first['low']:.3g} to {first['high']:.3g}, and {last['low']:.3g} to {last['high']:.3g} "
                f"(95 %, over {seeds} seeds)",
            ),
        ],
        seeds=in_words(seeds),
    )  # fmt: skip


def _steps(run: Run) -> list[int]:
    """The measured ones."""
    return [int(step) for step in run.members[0].columns["measure/noise_scale"][0]]


def _row(run: Run, step: int) -> Row:
    """Mean Ŝ² over mean Ĝ², over seeds, with Fieller's interval, beside the exact scale R.

    The distance from R, in standard errors, is that of the mean of Ŝ² − R·Ĝ², in which there is no ratio. Its
    standard error is the exact one: a few directions make most of ‖∇C‖², so that it is skewed over seeds, and
    where their mean comes out small, so does an error that is estimated from them.
    """
    from sgdlit.foundations.intervals import fieller_interval

    names = ("measure/covariance_trace", "measure/squared_gradient")
    at = [member.columns[names[0]][0].tolist().index(step) for member in run.members]
    trace, squared = (
        np.array([member.columns[name][1][i] for member, i in zip(run.members, at, strict=True)])
        for name in names
    )
    exact, variance = _exact_scale(run, step)
    means = (float(trace.mean()), float(squared.mean()))
    low, high = fieller_interval(means, np.cov(trace, squared) / len(trace), len(trace) - 1)
    return {
        "step": step, "scale": means[0] / means[1], "low": low, "high": high, "exact": exact,
        "errors": float((trace - exact * squared).mean() / (variance / len(trace)) ** 0.5),
    }  # fmt: skip


def _exact_scale(run: Run, step: int) -> tuple[float, float]:
    """R = Σc/Σh²E θ² after so many steps, the mean over starts and noise; and the variance of Ŝ² − R·Ĝ².

    θ and the examples' noise are normal, and directions independent. From n examples Var Ŝ² = 2Σc²/(n − 1)
    and, with s = E θ², Var Ĝ² = 2Σ(h²s + c/n)² + 2Σc²/(n²(n − 1)); their covariance is −Var Ŝ²/n.
    """
    from sgdlit.data.spectra import eigenvalues
    from sgdlit.theory.noisy_quadratic import ExactRisk, NoisyQuadratic
    from sgdlit.theory.optimizers import SGD

    d = run.value("model.network.d")
    h, c = (
        eigenvalues(f"{at}.{name}", d, run.value(f"{at}.{name}"), run.value(f"{at}.exponent"))
        for at, name in (("model.network", "curvature"), ("data", "variance"))
    )
    model = NoisyQuadratic(h, c, np.ones(d))
    exact = ExactRisk(model, SGD(), run.value("model.optimizer.lr"))
    seconds = model.start if step == 0 else exact.second_moments(step, run.value("data.batch_size"))
    n = run.value("trainer.callbacks.Measures.examples")
    h, c = model.curvature, model.noise
    scale, of_trace = c.sum() / (h**2 @ seconds), 2 * (c @ c) / (n - 1)
    of_square = 2 * ((h**2 * seconds + c / n) ** 2).sum() + of_trace / n**2
    return float(scale), float(of_trace + scale**2 * of_square + 2 * scale * of_trace / n)


def draw_runs(tables: Tables) -> dict[str, Figure]:
    """The noise scale over steps."""
    figure, (ax,) = panels(1, 1, width=5.2)
    rows = tables["noise_scale"]
    steps = [row["step"] for row in rows]
    ax.plot(steps, [row["exact"] for row in rows], color=COLORS[6], linewidth=1, label="exact: Σc/Σh²E θ²")
    errors = np.array([[row["scale"] - row["low"], row["high"] - row["scale"]] for row in rows]).T
    ax.errorbar(steps, [row["scale"] for row in rows], errors, fmt="o", markersize=4, color=COLORS[0],
                label="measured, 95 % over seeds")  # fmt: skip
    finish(ax, "noise scale along SGD on the noisy quadratic", "step", "B_simple in examples", log="y")
    ax.set_xscale("symlog", linthresh=1)
    ax.set_xlim(0, 1.2 * max(steps))
    return {"noise_scale": figure}


# What a step gains

_SIZES = (1, 4, 16, 64, 256, 1024)
_D, _STARTS, _DRAWS = 100, 10, 4000


def measure_steps(o: NoOptions, workshop: Workshop) -> Evidence:
    """Table ``gain``: by batch size and start, the best rate and its gain over those of the full gradient."""
    rows: list[Row] = []
    draws = _DRAWS if workshop.quick else 10 * _DRAWS
    for start, seed in enumerate(fresh_seeds(_STARTS)):
        rng = numbered_generator(seed, 0x5CA1E)
        h = 1 / np.arange(1, _D + 1)
        theta = rng.standard_normal(_D)
        rows += [{"seed": seed, **_gain(h, theta, size, draws, rng)} for size in _SIZES]
        workshop.progress("starts", start + 1, _STARTS)
    return Evidence({"gain": rows}, [_finding(rows, "rate"), _finding(rows, "gain")], seeds=in_words(_STARTS))


def _gain(h: np.ndarray, theta: np.ndarray, size: int, draws: int, rng: np.random.Generator) -> Row:
    """The best rate of one step at a batch size, and its gain, from drawn minibatches; and the noise scale.

    The cost after a step θ − εĝ is ½Σh(θ − εĝ)². Its mean over the drawn minibatches is a parabola in ε,
    whose minimum is found from three of its values: nothing of the paper's expansion is used.
    """
    scale_of_noise = float(h @ h / (h**3 @ theta**2))  # tr(HΣ)/gᵀHg with Σ = diag(h), g = hθ
    noise = rng.standard_normal((draws, len(h))) * np.sqrt(h / size)
    full = h * theta
    largest = float(full @ full / (full @ (h * full)))
    rates = np.array([0.0, 0.5, 1.0]) * largest
    costs = np.array([(0.5 * h * (theta - rate * (full + noise)) ** 2).sum(1).mean() for rate in rates])
    bent, along, _ = np.polyfit(rates, costs - costs[0], 2)
    best = -along / (2 * bent)
    most = float(full @ full) ** 2 / (2 * float(full @ (h * full)))
    return {
        "batch_size": size, "noise_scale": scale_of_noise, "rate": best / largest,
        "gain": along**2 / (4 * bent) / most,
    }  # fmt: skip


def _finding(rows: Sequence[Row], what: str) -> Finding:
    """The mean over starts of found over predicted, at the batch size where it is farthest from 1."""
    from sgdlit.foundations.intervals import t_interval

    words = {"rate": "best rate over that of the full gradient", "gain": "gain of a step over that with it"}
    ratios = {
        size: np.array([row[what] * (1 + row["noise_scale"] / size) for row in select(rows, batch_size=size)])
        for size in _SIZES
    }
    size = max(ratios, key=lambda size: abs(ratios[size].mean() - 1))
    low, high = t_interval(ratios[size])
    return Finding(
        "NS3", f"{words[what]}, times 1 + B_noise/B, where farthest from 1 (B = {size})", "1 ± 0.05",
        f"{ratios[size].mean():.4f}", abs(ratios[size].mean() - 1) < 0.05,
        f"{low:.4f} to {high:.4f} (95 %, over {_STARTS} starts)",
    )  # fmt: skip


def draw_steps(tables: Tables) -> dict[str, Figure]:
    """The best rate and its gain over B/B_noise, with the curve 1/(1 + B_noise/B)."""
    figure, axes = panels(1, 2)
    grid = np.geomspace(1e-2, 1e3, 200)
    for ax, what, y in zip(axes, ("rate", "gain"), ("ε(B)/ε(∞)", "ΔC(B)/ΔC(∞)"), strict=True):
        ax.plot(grid, 1 / (1 + 1 / grid), color=COLORS[6], linewidth=1, label="1/(1 + B_noise/B)")
        for size, color, marker in zip(_SIZES, COLORS, MARKERS, strict=False):
            own = select(tables["gain"], batch_size=size)
            ax.plot([size / row["noise_scale"] for row in own], [row[what] for row in own], marker,
                    color=color, markersize=4, linestyle="none", label=f"B = {size}")  # fmt: skip
        titles = {"rate": "best learning rate of a step", "gain": "what that step gains"}
        finish(ax, titles[what], "B/B_noise", y)
    return {"gain": figure}


_SOURCE = "McCandlish, Kaplan, Amodei et al. 2018, arXiv 1812.06162"
_RUNS_QUICK = "SGD on a noisy quadratic of 100 directions at ε = 0.5, B = 16: 100 seeds, 256 steps"
_RUNS_FULL = "the same, 1000 steps"
_CONFIG = "noisy_quadratic/noise_scale.yaml"

PAPER = Paper(
    "mccandlish2018",
    "McCandlish et al. 2018, An empirical model of large-batch training, arXiv 1812.06162",
    (
        Experiment(
            "runs",
            (
                Claim(
                    "NS1",
                    "the noise scale measured along runs is tr Σ/‖∇C‖²",
                    f"{_SOURCE}, equation 2.9 and appendix A.1",
                    "trained",
                    f"within {_FAR:g} standard errors of the exact one at every measured step",
                    _RUNS_QUICK,
                    _RUNS_FULL,
                    _CONFIG,
                ),
                Claim(
                    "NS2",
                    "the noise scale rises while the loss falls",
                    f"{_SOURCE}, section 2.2",
                    "trained",
                    "higher at the end than at the start, beyond both intervals",
                    _RUNS_QUICK,
                    _RUNS_FULL,
                    _CONFIG,
                ),
            ),
            measure_runs,
            draw_runs,
        ),
        Experiment(
            "steps",
            (
                Claim(
                    "NS3",
                    "best rate and gain of a step grow with the batch size as 1/(1 + B_noise/B)",
                    f"{_SOURCE}, equations 2.6 to 2.8",
                    "simulated",
                    "found over predicted within 5 % of 1 on average over starts, at every B",
                    f"{_STARTS} starts on the noisy quadratic, {_DRAWS} minibatches at each of six sizes",
                    f"the same, with {10 * _DRAWS} minibatches",
                ),
            ),
            measure_steps,
            draw_steps,
        ),
    ),
)
