"""Zhu et al. 2023: the mean of decentralized SGD's workers descends a loss that their distances smooth.

Each step mixes once and takes the gradient at the unmixed point. At rates larger than these the exponents are
1.8 and 2.7: the spectral gap no longer dominates ηh.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sgdlit.figures.style import COLORS, MARKERS, distinct, finish, panels, select
from sgdlit.papers.claim import Claim, Finding
from sgdlit.papers.paper import Evidence, Experiment, Paper, Row, Tables, Workshop
from sgdlit.papers.support.seed_findings import interval_of, mean_of, range_of
from sgdlit.theory.draws import numbered_generator

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = np.ndarray


@dataclass
class Options:
    """w_j ← Σ_k P_jk w_k − η(∇f(w_j) + σn_j) on a ring of m workers with weights ⅓ (F18).

    Symbols (Zhu et al. 2023, arXiv 2306.02913): w̄ the mean of the workers, Ξ = (1/m) Σ (w_j − w̄)(w_j − w̄)ᵀ,
    H the Hessian, r₁ = ‖mean_j ∇f(w_j) − ∇f(w̄)‖, r₂ the same after ½∇Tr(HΞ) is subtracted (Ξ held fixed).

    Args:
        seeds: how many.
        steps: of the stationary runs.
    """

    seeds: int = 40
    steps: int = 8000


_WORKERS, _LRS, _SIGMA, _FROM, _TO = 16, (0.02, 0.01, 0.005, 0.0025), 0.8, 100, 400
_SIZES, _LR, _BURN = (4, 16, 64), 0.05, 500


def gradient(w: Array) -> Array:
    """∇f of f = ¼(‖w‖² − 1)² + 1.5 w₂², for w ``[..., 2]``."""
    return ((w**2).sum(-1, keepdims=True) - 1) * w + np.array([0.0, 3.0]) * w


def measure_gradient(o: Options, workshop: Workshop) -> Evidence:
    """Table ``gradient``: mean r₁ and r₂ over steps, by η and seed."""
    from sgdlit.algorithms.graphs import ring

    matrix, lrs = ring(_WORKERS).numpy(), np.array(_LRS)
    w = np.tile(np.array([1.0, 0.0]), (len(lrs), o.seeds, _WORKERS, 1))
    drawn = [numbered_generator(seed, 1) for seed in range(o.seeds)]
    first, second = np.zeros((len(lrs), o.seeds)), np.zeros((len(lrs), o.seeds))
    for step in range(_TO):
        if step >= _FROM:
            mean = w.mean(-2)
            apart = w - mean[..., None, :]
            covariance = np.einsum("...ji,...jk->...ik", apart, apart) / _WORKERS
            trace = np.trace(covariance, axis1=-2, axis2=-1)
            rest = gradient(w).mean(-2) - gradient(mean)
            smoothed = mean * trace[..., None] + 2 * np.einsum("...ik,...k->...i", covariance, mean)
            first += np.linalg.norm(rest, axis=-1) / (_TO - _FROM)
            second += np.linalg.norm(rest - smoothed, axis=-1) / (_TO - _FROM)
        noise = _SIGMA * np.stack([d.standard_normal((_WORKERS, 2)) for d in drawn])
        moved = lrs[:, None, None, None] * (gradient(w) + noise)
        w = np.einsum("jk,...ki->...ji", matrix, w) - moved
    rows: list[Row] = [
        {"eta": lr, "seed": s, "r1": float(first[i, s]), "r2": float(second[i, s])}
        for i, lr in enumerate(_LRS)
        for s in range(o.seeds)
    ]
    slopes = [np.polyfit(np.log(lrs), np.log(own), 1)[0] for own in (first, second)]
    ratio = second[-1] / first[-1]
    findings = [
        Finding("L11a", f"power of η of {name}", f"{center} ± {band} in the mean", mean_of(slope),
                bool(abs(slope.mean() - center) <= band), interval_of(slope))
        for name, center, band, slope in (("r₁", 1.9, 0.15, slopes[0]), ("r₂", 2.85, 0.2, slopes[1]))
    ]  # fmt: skip
    findings.append(
        Finding("L11a", f"r₂/r₁ at η = {_LRS[-1]}", "< 0.01 in the mean", mean_of(ratio),
                bool(ratio.mean() < 0.01), interval_of(ratio))
    )  # fmt: skip
    return Evidence({"gradient": rows}, findings)


def consensus_of_ring(workers: int, lr: float, curvature: float, variance: float, d: int) -> float:
    """E Tr Ξ of stationary decentralized SGD on ½h‖w‖²: (dη²σ²/m) Σ_{k ≥ 1} 1/(1 − (λ_k − ηh)²)."""
    modes = (1 + 2 * np.cos(2 * np.pi * np.arange(1, workers) / workers)) / 3
    return float(d * lr**2 * variance / workers * (1 / (1 - (modes - lr * curvature) ** 2)).sum())


def measure_consensus(o: Options, workshop: Workshop) -> Evidence:
    """Table ``consensus``: stationary Tr Ξ and ‖w̄‖² by number of workers and seed, with their formulas."""
    from sgdlit.algorithms.graphs import ring

    evidence = Evidence({"consensus": []})
    for done, workers in enumerate(_SIZES):
        matrix, drawn = (
            ring(workers).numpy(),
            [numbered_generator(seed, 2, workers) for seed in range(o.seeds)],
        )
        w, trace, square = np.zeros((o.seeds, workers, 2)), np.zeros(o.seeds), np.zeros(o.seeds)
        for step in range(_BURN + o.steps):
            if step % 100 == 0:
                noise = np.stack([d.standard_normal((100, workers, 2)) for d in drawn], 1)
            w = matrix @ w - _LR * (w + noise[step % 100])
            if step >= _BURN:
                mean = w.mean(1)
                trace += ((w - mean[:, None]) ** 2).sum((1, 2)) / workers / o.steps
                square += (mean**2).sum(-1) / o.steps
        expected = consensus_of_ring(workers, _LR, 1.0, 1.0, 2), 2 * _LR / (workers * (2 - _LR))
        evidence.tables["consensus"] += [
            {"workers": workers, "seed": s, "trace": float(trace[s]), "trace_formula": expected[0],
             "mean_square": float(square[s]), "mean_square_formula": expected[1]}
            for s in range(o.seeds)
        ]  # fmt: skip
        for name, found, formula, band in (
            ("Tr Ξ", trace, expected[0], 0.03),
            ("‖w̄‖²", square, expected[1], 0.06),
        ):
            ratio = found / formula
            evidence.findings.append(
                Finding("L11b", f"m = {workers}: {name} over its formula", f"1 ± {band} in the mean",
                        mean_of(ratio), bool(abs(ratio.mean() - 1) <= band), interval_of(ratio))
            )  # fmt: skip
        workshop.progress("numbers of workers", done + 1, len(_SIZES))
    means = {
        name: [np.mean([r[name] for r in select(evidence.tables["consensus"], workers=m)]) for m in _SIZES]
        for name in ("trace", "mean_square")
    }
    grows, falls = np.array(means["trace"]), np.array(means["mean_square"]) * np.array(_SIZES)
    evidence.findings += [
        Finding("L11b", "Tr Ξ over m = 4, 16, 64", "grows", ", ".join(f"{v:.3g}" for v in grows),
                bool((np.diff(grows) > 0).all()), interval_of(trace)),
        Finding("L11b", "m·‖w̄‖² over m = 4, 16, 64: largest over least", "≤ 1.12", f"{range_of(falls)}",
                bool(falls.max() / falls.min() <= 1.12), interval_of(square * _SIZES[-1])),
    ]  # fmt: skip
    return evidence


def draw_gradient(tables: Tables) -> dict[str, Figure]:
    """r₁ and r₂ over η, with lines of the powers 2 and 3."""
    figure, (ax,) = panels(1, 1, width=4.6, height=3.7)
    rows = tables["gradient"]
    lrs = distinct(rows, "eta")
    for i, (name, label, power) in enumerate((("r1", "r₁: plain", 2), ("r2", "r₂: smoothed", 3))):
        values = [np.array([r[name] for r in select(rows, eta=lr)]) for lr in lrs]
        means = np.array([v.mean() for v in values])
        ax.errorbar(lrs, means, [v.std() for v in values], fmt=MARKERS[i], color=COLORS[i], markersize=4,
                    capsize=2, label=f"{label}, mean ± std over seeds")  # fmt: skip
        ax.plot(lrs, means[-1] * (np.array(lrs) / lrs[-1]) ** power, color=COLORS[i], linewidth=1,
                label=f"∝ η^{power}")  # fmt: skip
    finish(ax, "ring of 16 workers", "η", "distance from the mean gradient")
    ax.set_xticks(lrs, [f"{lr:g}" for lr in lrs])
    ax.minorticks_off()
    return {"gradient": figure}


def draw_consensus(tables: Tables) -> dict[str, Figure]:
    """Tr Ξ and ‖w̄‖² over the number of workers."""
    figure, (ax,) = panels(1, 1, width=4.6, height=3.7)
    rows = tables["consensus"]
    for i, (name, label) in enumerate((("trace", "Tr Ξ"), ("mean_square", "‖w̄‖²"))):
        x = [r["workers"] for r in rows]
        ax.plot(x, [r[name] for r in rows], MARKERS[i], color=COLORS[i], markersize=4, label=label)
        ax.plot(x, [r[f"{name}_formula"] for r in rows], color=COLORS[i], linewidth=1,
                label=f"{label}, formula")  # fmt: skip
    finish(ax, "ring, ½‖w‖², η = 0.05, each seed", "workers m", "stationary mean")
    ax.set_xticks(_SIZES, [str(m) for m in _SIZES])
    ax.minorticks_off()
    return {"consensus": figure}


_SOURCE = "Zhu, He, Song & Tao 2023, arXiv 2306.02913"
_FULL = (
    "40 seeds, 8000 steps; fit --config workers/ring.yaml trains networks so; the paper's: ResNet-18 on "
    "CIFAR-10, 16 workers, 6000 steps, local B = 64 at 0.1 or 512 at 0.8"
)

PAPER = Paper(
    "zhu2023",
    "Zhu et al. 2023, Decentralized SGD and average-direction SAM are asymptotically equivalent, "
    "arXiv 2306.02913",
    (
        Experiment(
            "gradient",
            (
                Claim(
                    "L11a",
                    "the mean of the workers follows the gradient of the loss smoothed by their covariance, "
                    "which is average-direction SAM",
                    f"{_SOURCE}, theorem 1 (F18)",
                    "simulated",
                    "the mean gradient differs from ∇f(w̄) as η^(1.9 ± 0.15), from the smoothed one as "
                    "η^(2.85 ± 0.2), by less than 1 % of that at η = 0.0025",
                    "a ring of 16, ¼(‖w‖² − 1)² + 1.5w₂², steps 100 to 400, η = 0.02 to 0.0025, 10 seeds",
                    _FULL,
                ),
            ),
            measure_gradient,
            draw_gradient,
        ),
        Experiment(
            "consensus",
            (
                Claim(
                    "L11b",
                    "Ξ does not vanish as workers are added, while the noise of their mean does",
                    f"{_SOURCE}, section 4",
                    "simulated",
                    "Tr Ξ within 3 % of its formula and growing with m, ‖w̄‖² within 6 % and falling as 1/m",
                    "½‖w‖² in two dimensions, η = 0.05, m = 4, 16, 64, 4000 steps, 10 seeds",
                    _FULL,
                ),
            ),
            measure_consensus,
            draw_consensus,
        ),
    ),
    Options,
    {"seeds": 10, "steps": 4000},
)
