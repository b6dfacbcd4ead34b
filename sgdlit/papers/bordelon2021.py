"""Bordelon & Pehlevan 2021: the exact learning curve of SGD on structured features (L28)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sgdlit.data.spectra import power_law
from sgdlit.figures.style import COLORS, MARKERS, binary_ticks, distinct, finish, panels, select
from sgdlit.papers.claim import EXACT, Claim, Finding
from sgdlit.papers.paper import Evidence, Experiment, Paper, Tables, Workshop
from sgdlit.papers.support.seed_findings import in_the_mean, inside
from sgdlit.papers.support.slopes import log_slope

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass
class Options:
    """SGD from a stream of Gaussian features, squared error (L28).

    Symbols (Bordelon & Pehlevan, arXiv 2106.02713; F13): λ_k the eigenvalues of the features' covariance, v_k
    the teacher's coefficients, m the batch size, ε the learning rate, L_t = E(f − y)² after t steps; λ_k ∝
    k^(−b) and λ_k v_k² ∝ k^(−a).

    Args:
        seeds: of the simulated runs, 0, 1, 2, ….
        runs: simulated per seed.
        features: N of the power laws.
        steps: of the power laws; the slope is taken over the last nine tenths of them.
    """

    seeds: int = 10
    runs: int = 400
    features: int = 3000
    steps: int = 20_000


@dataclass(frozen=True)
class _Case:
    """A setting whose curve is simulated."""

    name: str
    features: int
    decay: float
    lr: float
    batch_size: int
    at: tuple[int, ...]
    noise: float
    tolerance: float


_CASES = (
    _Case("clean", 60, 1.5, 0.25, 3, (10, 100, 400), 0.0, 0.02),
    _Case("noise 0.5", 40, 1.0, 0.2, 2, (600,), 0.5, 0.04),
)


def measure_curves(o: Options, workshop: Workshop) -> Evidence:
    """Tables ``simulated``, the loss of each seed over the exact one, and ``exact``, the curves."""
    from sgdlit.theory.draws import generator
    from sgdlit.theory.learning_curves import learning_curve, simulate_learning

    evidence = Evidence({"simulated": [], "exact": []})
    for case in _CASES:
        spectrum, power = power_law(case.features, case.decay), power_law(case.features, 0.5)
        exact = learning_curve(spectrum, power, case.lr, case.batch_size, case.at[-1], case.noise)
        evidence.tables["exact"] += [
            {"case": case.name, "step": int(t), "loss": float(exact[t])}
            for t in np.unique(np.geomspace(1, case.at[-1], 60).astype(int))
        ]
        for seed in range(o.seeds):
            draw = generator(seed, f"learning curve, {case.name}")
            found = simulate_learning(
                spectrum, power, case.lr, case.batch_size, list(case.at), o.runs, draw, case.noise
            ).mean(1)
            evidence.tables["simulated"] += [
                {"case": case.name, "seed": seed, "step": t, "loss": float(loss),
                 "over_exact": float(loss / exact[t])}
                for t, loss in zip(case.at, found, strict=True)
            ]  # fmt: skip
            workshop.progress(case.name, seed + 1, o.seeds)
        for t in case.at:
            ratio = [r["over_exact"] for r in select(evidence.tables["simulated"], case=case.name, step=t)]
            statement = f"{case.name}: mean loss of {o.runs} runs over F13 at step {t}"
            evidence.findings.append(
                in_the_mean("L28a", statement, ratio, 1 - case.tolerance, 1 + case.tolerance)
            )
    evidence.findings.append(_isotropic())
    return evidence


def _isotropic() -> Finding:
    """λ = 1, m = 1: at ε = 1/(N + 2) the loss is (1 − 1/(N + 2))ᵗ L₀, the fastest."""
    from sgdlit.theory.learning_curves import learning_curve

    n, steps = 50, 500
    found = learning_curve(np.ones(n), np.full(n, 1 / n), 1 / (n + 2), 1, steps)
    apart = float(np.abs(found / (1 - 1 / (n + 2)) ** np.arange(steps + 1) - 1).max())
    statement = "isotropic, N = 50: largest relative distance of L_t from (1 − 1/(N + 2))ᵗ at ε = 1/(N + 2)"
    return Finding("L28a", statement, "< 1e-12", f"{apart:.1e}", apart < 1e-12, EXACT)


def draw_curves(tables: Tables) -> dict[str, Figure]:
    """The exact curves, and simulated losses on them."""
    figure, (ax,) = panels(1, 1, width=4.6, height=3.7)
    for i, case in enumerate(distinct(tables["exact"], "case")):
        curve, found = select(tables["exact"], case=case), select(tables["simulated"], case=case)
        ax.plot([r["step"] for r in curve], [r["loss"] for r in curve], color=COLORS[i],
                label=f"{case}: exact (F13)")  # fmt: skip
        ax.plot([r["step"] for r in found], [r["loss"] for r in found], MARKERS[i], color=COLORS[i],
                markersize=4.5, fillstyle="none", label=f"{case}: mean of runs, each seed")  # fmt: skip
    finish(ax, "learning curves of SGD on Gaussian features (L28)", "step t", "E(f − y)²")
    return {"curves": figure}


_POWERS = ((2.0, 1.5), (3.0, 2.0), (2.0, 2.0))


def measure_powers(o: Options, workshop: Workshop) -> Evidence:
    """Tables ``curves``, exact losses of power-law features, and ``slopes``."""
    from sgdlit.theory.learning_curves import learning_curve

    evidence = Evidence({"curves": [], "slopes": []})
    for k, (a, b) in enumerate(_POWERS):
        losses = learning_curve(power_law(o.features, b), power_law(o.features, a - b), 0.1, 1, o.steps)
        steps = np.unique(np.geomspace(1, o.steps, 100).astype(int))
        late = steps[steps >= o.steps / 10]
        found, theory = float(log_slope(late, losses[late])), -(a - 1) / b
        evidence.tables["curves"] += [
            {"a": a, "b": b, "step": int(t), "loss": float(losses[t])} for t in steps
        ]
        evidence.tables["slopes"].append({"a": a, "b": b, "slope": found, "predicted": theory})
        statement = f"a = {a:g}, b = {b:g}: slope of log L over log t from step {o.steps // 10} to {o.steps}"
        holds = inside(found, theory - 0.05, theory + 0.05)
        evidence.findings.append(
            Finding("L28b", statement, f"{theory:.3f} ± 0.05", f"{found:.3f}", holds, EXACT)
        )
        workshop.progress("power laws", k + 1, len(_POWERS))
    return evidence


def draw_powers(tables: Tables) -> dict[str, Figure]:
    """Exact losses over steps, and the predicted powers through their ends."""
    figure, (ax,) = panels(1, 1, width=4.6, height=3.7)
    for i, row in enumerate(tables["slopes"]):
        curve = select(tables["curves"], a=row["a"], b=row["b"])
        end = curve[-1]
        ax.plot([r["step"] for r in curve], [r["loss"] for r in curve], color=COLORS[i],
                label=f"a = {row['a']:g}, b = {row['b']:g}: exact, slope {row['slope']:.3f}")  # fmt: skip
        x = np.array([end["step"] / 100, end["step"]])
        ax.plot(x, end["loss"] * (x / end["step"]) ** row["predicted"], "--", color=COLORS[i], linewidth=1.2)
    ax.plot([], [], "k--", linewidth=1.2, label="slope −(a − 1)/b")
    finish(ax, "power-law features (L28)", "step t", "E(f − y)²")
    return {"powers": figure}


_COMPUTE, _WIDE = 400, 200
_SPECTRA = {"isotropic": 0.0, "λ ∝ k^(−1.5)": 1.5, "λ ∝ k^(−3)": 3.0}


def measure_batches(o: Options, workshop: Workshop) -> Evidence:
    """Table ``batches``: the least loss after 400 examples, at the best of 20 rates, over the batch size."""
    from sgdlit.theory.learning_curves import best_loss, learning_curve

    evidence = Evidence({"batches": []})
    lrs, power = np.geomspace(1e-3, 2, 20), power_law(_WIDE, 0.5)
    for k, (name, decay) in enumerate(_SPECTRA.items()):
        spectrum, found, refined = power_law(_WIDE, decay), {}, {}
        for batch_size in (1, 2, 4, 8, 16, 32, 64):
            steps = _COMPUTE // batch_size
            with np.errstate(over="ignore", invalid="ignore"):
                losses = learning_curve(spectrum, power, lrs, batch_size, steps)[-1]
            at = int(np.nanargmin(losses))
            found[batch_size] = float(losses[at])
            refined[batch_size] = best_loss(spectrum, power, batch_size, steps, lrs)[0]
            evidence.tables["batches"].append(
                {"spectrum": name, "batch_size": batch_size, "loss": found[batch_size], "lr": float(lrs[at])}
            )
        best, worse = min(found, key=found.__getitem__), found[64] / found[1]
        between = min(refined, key=refined.__getitem__)
        note = f"{name}: where the best rate is sought between those of the grid, the best m is {between}"
        evidence.findings += [
            Finding("L28c", f"{name}: best m", "1", f"{best}", best == 1, EXACT, note),
            Finding(
                "L28c", f"{name}: loss at m = 64 over m = 1", "> 1.2", f"{worse:.3g}", worse > 1.2, EXACT
            ),
        ]
        workshop.progress("spectra", k + 1, len(_SPECTRA))
    return evidence


def draw_batches(tables: Tables) -> dict[str, Figure]:
    """The least loss over the batch size, relative to m = 1."""
    figure, (ax,) = panels(1, 1, width=4.6, height=3.7)
    for i, name in enumerate(distinct(tables["batches"], "spectrum")):
        here = select(tables["batches"], spectrum=name)
        ax.plot([r["batch_size"] for r in here], [r["loss"] / here[0]["loss"] for r in here], color=COLORS[i],
                marker=MARKERS[i], markersize=4.5, label=name)  # fmt: skip
    ax.axhline(1, color="black", linewidth=1, linestyle="--")
    title = f"{_COMPUTE} examples in batches of m, best rate (L28)"
    finish(ax, title, "batch size m", "loss over that at m = 1")
    binary_ticks(ax, distinct(tables["batches"], "batch_size"))
    return {"batches": figure}


_SOURCE = "Bordelon & Pehlevan 2021, arXiv 2106.02713"
_NTK = "the same, and spectra of the neural tangent kernel on MNIST and CIFAR-10 at depth 1, 2 and 5"

PAPER = Paper(
    "bordelon2021",
    "Bordelon & Pehlevan 2021, Learning curves for SGD on structured features, arXiv 2106.02713",
    (
        Experiment(
            "curves",
            (
                Claim(
                    "L28a",
                    "the mean test loss of online SGD on Gaussian features is exactly F13, with noise too",
                    f"{_SOURCE}, theorem 1; F13",
                    "simulated",
                    "simulated/exact 1 ± 0.02 at t = 10, 100, 400; 1 ± 0.04 with noise; isotropic to "
                    "rounding",
                    "N = 60, λ = k^(−1.5), v² = k^(−½), ε = 0.25, m = 3; N = 40, λ = 1/k, ε = 0.2, m = 2, "
                    "noise "
                    "0.5, t = 600; 400 runs for each of 10 seeds",
                    _NTK,
                ),
            ),
            measure_curves,
            draw_curves,
        ),
        Experiment(
            "powers",
            (
                Claim(
                    "L28b",
                    "λ_k ∝ k^(−b) and λ_k v_k² ∝ k^(−a) give L ∝ t^(−(a − 1)/b)",
                    f"{_SOURCE}, section 3",
                    "exact",
                    "slope within 0.05 of −(a − 1)/b",
                    "N = 3000, ε = 0.1, m = 1, (a, b) = (2, 1.5), (3, 2), (2, 2), t = 2000 … 20 000; (1.5, "
                    "1.2) "
                    "misses at this N and is not used",
                    _NTK,
                ),
            ),
            measure_powers,
            draw_powers,
        ),
        Experiment(
            "batches",
            (
                Claim(
                    "L28c",
                    "at fixed compute the best batch is small",
                    f"{_SOURCE}, section 3.2",
                    "exact",
                    "best m = 1, and m = 64 worse by more than 1.2, for three spectra",
                    "N = 200, t·m = 400, m = 1 … 64, the best of 20 log-spaced rates from 0.001 to 2",
                    _NTK,
                ),
            ),
            measure_batches,
            draw_batches,
        ),
    ),
    Options,
)
