"""Attia & Koren 2023: SGD with one AdaGrad stepsize adapts to smoothness and noise.

What a simulation can get wrong: the average of the iterates on a quadratic falls faster than 1/T and shows
nothing; a start far away bends the slope under constant noise towards −0.8; ``torch.optim.Adagrad`` has a
rate per coordinate and is another algorithm.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sgdlit.figures.style import COLORS, MARKERS, distinct, finish, panels, select
from sgdlit.foundations.errors import UserError
from sgdlit.papers.claim import Claim, Finding
from sgdlit.papers.paper import Evidence, Experiment, Paper, Row, Tables, Workshop
from sgdlit.papers.support.seed_findings import all_seeds, interval_of, mean_of, range_of
from sgdlit.theory.draws import numbered_generator

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = np.ndarray


@dataclass
class Options:
    """AdaGrad-Norm in twenty dimensions (F17).

    Symbols (Attia & Koren 2023, arXiv 2302.08783): η the rate's scale, γ its regularizer, σ₀ the constant
    part of the noise, σ₁ the part that is proportional to ‖∇f‖, A_T = (1/T) Σ_t ‖∇f(w_t)‖² over the first T
    steps, G_T = γ² + Σ_t ‖g_t‖².

    Args:
        seeds: how many.
        shortest: the least T.
        doublings: how often T is doubled.
        robust_steps: T of the comparison with SGD.
    """

    seeds: int = 40
    shortest: int = 2000
    doublings: int = 6
    robust_steps: int = 4000


_D, _GAMMA, _ETA = 20, 0.01, 1.0
_CURVATURE = np.geomspace(1, 0.1, _D)
_NOISES = {"none": (0.0, 0.0), "affine": (0.0, 3.0), "constant": (5.0, 0.0)}
_FUNCTIONS = ("quadratic", "nonconvex")
_BANDS = {"none": (-1.02, -0.98), "affine": (-1.03, -0.97), "constant": (-0.68, -0.45)}
_LRS = [10.0**k for k in range(-3, 4)]


def gradients(w: Array) -> Array:
    """∇f of ½Σhw² where the first axis is 0, and of Σ w²/(1 + w²) where it is 1: ``[2, ..., d]``."""
    return np.stack([_CURVATURE * w[0], 2 * w[1] / (1 + w[1] ** 2) ** 2])


def measure_rates(o: Options, workshop: Workshop) -> Evidence:
    """Table ``curves``: the mean of A_T over seeds; ``slopes``: of log A_T over log T, by seed."""
    if o.doublings < 1 or o.seeds < 2:
        raise UserError(f"doublings = {o.doublings}, seeds = {o.seeds}: at least 1 and 2 are needed")
    times = [o.shortest * 2**k for k in range(o.doublings + 1)]
    sigma = np.array(list(_NOISES.values())).T[:, None, :, None]  # [2, 1, cases, 1]
    w = np.full((2, len(_NOISES), o.seeds, _D), 0.5)
    sums, totals = np.full(w.shape[:3], _GAMMA**2), np.zeros(w.shape[:3])
    found, adapted = [], []
    draws = [numbered_generator(seed, 2) for seed in range(o.seeds)]
    for step in range(times[-1]):
        if step % 1000 == 0:
            noise = np.stack([draw.standard_normal((1000, _D)) for draw in draws], 1) / np.sqrt(_D)
            workshop.progress("steps", step, times[-1])
        true = gradients(w)
        squares = (true * true).sum(-1)
        totals += squares
        g = true + (sigma[0] + sigma[1] * np.sqrt(squares))[..., None] * noise[step % 1000]
        sums += (g * g).sum(-1)
        w -= (_ETA / np.sqrt(sums))[..., None] * g
        if step + 1 in times:
            found.append(totals / (step + 1))
            adapted.append(np.sqrt(sums / (step + 1)))
    return _rates(times, np.array(found), np.array(adapted)[-1])


def _rates(times: list[int], means: Array, adapted: Array) -> Evidence:
    """What the means A_T ``[times, functions, cases, seeds]`` say, and √(G_T/T) at the end."""
    evidence = Evidence({"curves": [], "slopes": []})
    slopes = np.polyfit(np.log(times), np.log(means).reshape(len(times), -1), 1)[0].reshape(means.shape[1:])
    for i, function in enumerate(_FUNCTIONS):
        for j, (noise, (low, high)) in enumerate(_BANDS.items()):
            own = slopes[i, j]
            evidence.tables["slopes"] += [
                {"function": function, "noise": noise, "seed": s, "slope": float(v)}
                for s, v in enumerate(own)
            ]
            evidence.tables["curves"] += [
                {"function": function, "noise": noise, "T": t, "mean_square": float(means[k, i, j].mean()),
                 "low": float(means[k, i, j].min()), "high": float(means[k, i, j].max())}
                for k, t in enumerate(times)
            ]  # fmt: skip
            statement = f"{function}, noise: {noise}: slope of log A_T over log T"
            evidence.findings.append(
                Finding("L2a", statement, f"{low} to {high} in the mean", mean_of(own),
                        bool(low <= own.mean() <= high), interval_of(own))
            )  # fmt: skip
        ratio = adapted[i, list(_NOISES).index("constant")] / _NOISES["constant"][0]
        statement = f"{function}, noise: constant: √(G_T/T)/σ₀ at T = {times[-1]}"
        holds = bool((abs(ratio - 1) <= 0.02).all())
        evidence.findings.append(
            Finding("L2a", statement, "1 ± 0.02 in every seed", range_of(ratio), holds, interval_of(ratio))
        )
    return evidence


def measure_robustness(o: Options, workshop: Workshop) -> Evidence:
    """Table ``final``: f after the last step over η, of AdaGrad-Norm and of SGD; None where not finite."""
    eta = np.array(_LRS)[:, None]
    w = np.full((2, len(_LRS), o.seeds, _D), 1.5)  # AdaGrad-Norm and SGD
    sums = np.full((len(_LRS), o.seeds), _GAMMA**2)
    start = float(0.5 * _CURVATURE.sum() * 1.5**2)
    draws = [numbered_generator(seed, 3) for seed in range(o.seeds)]
    with np.errstate(over="ignore", invalid="ignore"):
        for step in range(o.robust_steps):
            if step % 1000 == 0:
                noise = np.stack([draw.standard_normal((1000, _D)) for draw in draws], 1) / np.sqrt(_D)
            g = _CURVATURE * w + 0.1 * noise[step % 1000]
            sums += (g[0] ** 2).sum(-1)
            w[0] -= (eta / np.sqrt(sums))[..., None] * g[0]
            w[1] -= eta[..., None] * g[1]
        final = 0.5 * (_CURVATURE * w**2).sum(-1)
    adagrad, sgd = final
    rows: list[Row] = [
        {"eta": lr, "start": start, "adagrad_norm": float(a.mean()),
         "sgd": float(b.mean()) if np.isfinite(b).all() else None}
        for lr, a, b in zip(_LRS, adagrad, sgd, strict=True)
    ]  # fmt: skip
    large = np.array(_LRS) >= 1
    means = adagrad[large].mean(1)
    spread, single = float(means.max() / means.min()), adagrad[large].max(0) / adagrad[large].min(0)
    below = adagrad.max(0) / start
    finite = np.isfinite(sgd[np.array(_LRS) >= 10]).sum()
    findings = [
        Finding("L2b", "AdaGrad-Norm: largest f at the end over f at the start, η from 10⁻³ to 10³",
                "< 1 in every seed", range_of(below), bool((below < 1).all()), all_seeds(below)),
        Finding("L2b", "AdaGrad-Norm: largest over least mean of f at the end, η ≥ 1", "< 30",
                f"{spread:.3g}", spread < 30, interval_of(single),
                f"the interval is that of the same ratio in single seeds, {range_of(single)}"),
        Finding("L2b", "SGD: runs with η ≥ 10 that end finite (2/h_max = 2)", "0", str(int(finite)),
                bool(finite == 0), all_seeds(single)),
    ]  # fmt: skip
    return Evidence({"final": rows}, findings)


def draw_rates(tables: Tables) -> dict[str, Figure]:
    """A_T over T for both functions, with lines of slope −1 and −½."""
    figure, axes = panels(1, 2)
    for ax, function in zip(axes, _FUNCTIONS, strict=True):
        t = distinct(tables["curves"], "T")
        for i, noise in enumerate(distinct(tables["curves"], "noise")):
            here = select(tables["curves"], function=function, noise=noise)
            y = np.array([r["mean_square"] for r in here])
            apart = np.maximum([y - [r["low"] for r in here], [r["high"] for r in here] - y], 0)
            ax.errorbar(t, y, apart, fmt=MARKERS[i], color=COLORS[i], markersize=4, capsize=2, linewidth=1,
                        label=f"noise: {noise}")  # fmt: skip
            power = -0.5 if noise == "constant" else -1.0
            ax.plot(t, y[0] * (np.array(t) / t[0]) ** power, color=COLORS[i], linewidth=1,
                    linestyle="--" if noise == "constant" else "-")  # fmt: skip
        ax.plot([], [], "k-", linewidth=1, label="∝ 1/T")
        ax.plot([], [], "k--", linewidth=1, label="∝ 1/√T")
        finish(ax, f"AdaGrad-Norm, {function}", "steps T", "mean of ‖∇f(w_t)‖² over T steps")
        ax.set_xticks(t, [str(v) for v in t])
        ax.minorticks_off()
        ax.legend(fontsize=7, loc="lower left")
        ax.set_ylim(bottom=ax.get_ylim()[0] / 5)
    return {"rates": figure}


def draw_robustness(tables: Tables) -> dict[str, Figure]:
    """The loss at the end over η; SGD has no point where it diverged."""
    figure, (ax,) = panels(1, 1, width=4.6, height=3.7)
    rows = tables["final"]
    for i, (name, label) in enumerate((("adagrad_norm", "AdaGrad-Norm"), ("sgd", "SGD, same numbers"))):
        here = [r for r in rows if r[name] is not None]
        ax.plot([r["eta"] for r in here], [r[name] for r in here], color=COLORS[i], marker=MARKERS[i],
                markersize=4, label=label)  # fmt: skip
    ax.axhline(rows[0]["start"], color="black", linewidth=1, linestyle=":", label="at the start")
    ax.axvline(2 / _CURVATURE.max(), color="black", linewidth=1, linestyle="--", label="2/h_max")
    ax.set_xlim(rows[0]["eta"] / 2, rows[-1]["eta"] * 2)
    finish(ax, "quadratic, constant noise 0.1", "η", "f after the last step")
    return {"robustness": figure}


_SOURCE = "Attia & Koren 2023, arXiv 2302.08783, theorem 1; stepsize of Ward, Wu & Bottou 2019 (F17)"
_FULL = (
    "T up to 128 000 and 40 seeds; of networks (not in the paper): CIFAR-10, ResNet-18, η over six decades"
)

PAPER = Paper(
    "attia2023",
    "Attia & Koren 2023, SGD with AdaGrad stepsizes: full adaptivity with high probability to unknown "
    "parameters, unbounded gradients and affine variance, arXiv 2302.08783",
    (
        Experiment(
            "rates",
            (
                Claim(
                    "L2a",
                    "the mean of ‖∇f‖² falls as 1/T without noise and with noise that vanishes with the "
                    "gradient, as 1/√T with constant noise",
                    _SOURCE,
                    "simulated",
                    "slopes over log T of −1 ± 0.02 (no noise), −1 ± 0.03 (affine), −0.68 to −0.45 "
                    "(constant); √(G_T/T) = σ₀ within 2 %",
                    "a quadratic and a nonconvex function of 20 parameters, T = 2000 to 32 000, 10 seeds",
                    _FULL,
                ),
            ),
            measure_rates,
            draw_rates,
        ),
        Experiment(
            "robustness",
            (
                Claim(
                    "L2b",
                    "no scale η of the stepsize diverges, where SGD with the same numbers does",
                    _SOURCE,
                    "simulated",
                    "below the start at every η; within a factor 30 for η ≥ 1; SGD not finite for η ≥ 10",
                    "the quadratic, σ₀ = 0.1, 4000 steps, η from 10⁻³ to 10³, 10 seeds",
                    _FULL,
                ),
            ),
            measure_robustness,
            draw_robustness,
        ),
    ),
    Options,
    {"seeds": 10, "doublings": 4},
)
