"""Li et al. 2023: accelerated SGD's bias falls faster in small eigenvalues, and its variance is larger.

The second moments of every eigendirection are followed exactly; the rule for the parameters, β = δ/(2κ̃γ) and
α = 1/(1 + β), is as it is recalled. ``AccSGD`` of libraries has another parametrisation, and Nesterov's
momentum on one sequence is another algorithm.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from sgdlit.figures.style import COLORS, finish, panels, select
from sgdlit.papers.claim import EXACT, Claim, Finding
from sgdlit.papers.paper import Evidence, Experiment, Paper, Row, Tables, Workshop
from sgdlit.papers.support.seed_findings import interval_of, mean_of
from sgdlit.theory.draws import numbered_generator

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = np.ndarray


@dataclass
class Options:
    """Least squares on Gaussian inputs, one a step.

    Symbols (Li et al. 2023, arXiv 2311.14222): λ_k = k^(−3/2) the eigenvalues of H, δ and γ the short and the
    long step, u = αw + (1 − α)v, w ← u − δg(u), v ← βu + (1 − β)v − γg(u); SGD has the rate δ. σ² is the
    variance of the labels' noise. The head is k = 1, 2, the tail k = 21 … 60.

    Args:
        steps: after which the two are compared.
        seeds: of the simulation.
        runs: of the simulation, in each seed.
        simulated_steps: of the simulation.
    """

    steps: int = 1000
    seeds: int = 20
    runs: int = 400
    simulated_steps: int = 300


_D, _KAPPA = 200, 10


@dataclass(frozen=True)
class Instance:
    """The problem and the four parameters."""

    @cached_property
    def eigenvalues(self) -> Array:
        return np.arange(1, _D + 1) ** -1.5

    @cached_property
    def delta(self) -> float:
        return float(1 / (4 * self.eigenvalues.sum()))

    @cached_property
    def gamma(self) -> float:
        return float(1 / (4 * self.eigenvalues[_KAPPA:].sum()))

    @cached_property
    def beta(self) -> float:
        return self.delta / (2 * _KAPPA * self.gamma)

    @cached_property
    def alpha(self) -> float:
        return 1 / (1 + self.beta)

    def start(self, where: str) -> Array:
        """1 in the directions of the head or of the tail, 0 elsewhere."""
        k = np.arange(1, _D + 1)
        return ((k <= 2) if where == "head" else (k >= 21) & (k <= 60)).astype(float)

    @cached_property
    def maps(self) -> Array:
        """What a step does to the mean of (w, v): float64 ``[d, 2, 2]``."""
        h, a, b = self.eigenvalues, self.alpha, self.beta
        along_w, along_v = 1 - self.delta * h, b - self.gamma * h
        rows = [[along_w * a, along_w * (1 - a)], [along_v * a, along_v * (1 - a) + 1 - b]]
        return np.stack([np.stack(row, -1) for row in rows], -2)

    def accelerated_moments(self, start: Array, variance: float, steps: int) -> Array:
        """E w_k² of accelerated SGD after 0 … ``steps`` steps: float64 ``[steps + 1, d]``."""
        h, point = self.eigenvalues, np.array([self.alpha, 1 - self.alpha])
        second = np.broadcast_to((start**2)[:, None, None], (_D, 2, 2)).copy()
        hit = np.outer([self.delta, self.gamma], [self.delta, self.gamma])
        found = [second[:, 0, 0]]
        for _ in range(steps):
            at_u = np.einsum("i,kij,j->k", point, second, point)
            noise = h**2 * at_u + h * (h @ at_u) + variance * h
            second = self.maps @ second @ self.maps.transpose(0, 2, 1) + noise[:, None, None] * hit
            found.append(second[:, 0, 0])
        return np.array(found)

    def sgd_moments(self, start: Array, variance: float, steps: int) -> Array:
        """E w_k² of SGD with the rate δ after 0 … ``steps`` steps: float64 ``[steps + 1, d]``."""
        h, second = self.eigenvalues, start**2
        found = [second]
        for _ in range(steps):
            noise = h**2 * second + h * (h @ second) + variance * h
            second = (1 - self.delta * h) ** 2 * second + self.delta**2 * noise
            found.append(second)
        return np.array(found)

    def simulated(
        self, start: Array, variance: float, steps: int, runs: int, seed: int
    ) -> tuple[Array, Array]:
        """w after the steps, of SGD and of accelerated SGD on the same examples: ``[runs, d]`` each."""
        root, drawn = np.sqrt(self.eigenvalues), numbered_generator(seed, 1)
        sgd, w, v = (np.tile(start, (runs, 1)) for _ in range(3))
        for _ in range(steps):
            x = drawn.standard_normal((runs, _D)) * root
            noise = np.sqrt(variance) * drawn.standard_normal(runs)
            sgd = sgd - self.delta * (np.einsum("rd,rd->r", x, sgd) - noise)[:, None] * x
            u = self.alpha * w + (1 - self.alpha) * v
            g = (np.einsum("rd,rd->r", x, u) - noise)[:, None] * x
            w, v = u - self.delta * g, self.beta * u + (1 - self.beta) * v - self.gamma * g
        return sgd, w


def measure(o: Options, workshop: Workshop) -> Evidence:
    """Tables ``directions``: mean and variance by k after the steps; ``risk``: over steps, by start."""
    instance = Instance()
    h = instance.eigenvalues
    mean_sgd = np.abs(1 - instance.delta * h) ** o.steps
    mean_asgd = np.abs(np.linalg.matrix_power(instance.maps, o.steps).sum(-1)[:, 0])
    quiet = np.zeros(_D)
    variance_sgd = instance.sgd_moments(quiet, 1.0, o.steps)[-1]
    variance_asgd = instance.accelerated_moments(quiet, 1.0, o.steps)[-1]
    directions: list[Row] = [
        {"k": k + 1, "mean_sgd": float(mean_sgd[k]), "mean_asgd": float(mean_asgd[k]),
         "variance_sgd": float(variance_sgd[k]), "variance_asgd": float(variance_asgd[k])}
        for k in range(_D)
    ]  # fmt: skip
    better = mean_asgd < mean_sgd
    crossings, first = int((better[1:] != better[:-1]).sum()), int(better.argmax())
    ratios, total = variance_asgd / variance_sgd, float((h @ variance_asgd) / (h @ variance_sgd))
    evidence = Evidence({"directions": directions, "risk": []})
    evidence.findings = [
        Finding("L22", f"mean after {o.steps} steps: crossings over k, and directions in which SGD is better",
                "1, the first few", f"{crossings}, the first {first}",
                crossings == 1 and 0 < first <= 20 and bool(better[-1]), EXACT),
        Finding("L22", f"variance after {o.steps} steps, ASGD over SGD, least over k",
                "> 1 in all directions", f"{ratios.min():.3f}", bool((ratios > 1).all()), EXACT),
        Finding("L22", f"risk of the variance after {o.steps} steps, ASGD over SGD", "1.5 to 4",
                f"{total:.2f}", 1.5 <= total <= 4, EXACT),
    ]  # fmt: skip
    for where, limit, words in (("tail", 0.5, "< 0.5"), ("head", 1.5, "> 1.5")):
        evidence.findings += _from_start(instance, o.steps, where, limit, words, evidence.tables["risk"])
    _simulate(o, instance, workshop, evidence)
    return evidence


def _from_start(
    instance: Instance, steps: int, where: str, limit: float, words: str, rows: list[Row]
) -> list[Finding]:
    """Risks from a start, without noise and with little."""
    h, found = instance.eigenvalues, []
    for variance, size in ((0.0, 1.0), (0.01, 5.0)):
        start = size * instance.start(where)
        sgd = 0.5 * instance.sgd_moments(start, variance, steps) @ h
        asgd = 0.5 * instance.accelerated_moments(start, variance, steps) @ h
        kept = np.unique(np.geomspace(1, steps, 60).astype(int)).tolist()
        rows += [
            {"start": where, "variance": variance, "step": k, "sgd": float(sgd[k]), "asgd": float(asgd[k])}
            for k in kept
        ]
        ratio, bias = float(asgd[-1] / sgd[-1]), variance == 0
        bound, predicted = (limit, words) if bias else (1.0, words[0] + " 1")
        holds = ratio < bound if where == "tail" else ratio > bound
        name = "bias" if bias else f"σ² = {variance:g}, start × {size:g}"
        found.append(
            Finding("L22", f"risk after {steps} steps from the {where}, {name}: ASGD over SGD", predicted,
                    f"{ratio:.3f}", holds, EXACT)
        )  # fmt: skip
    return found


def _simulate(o: Options, instance: Instance, workshop: Workshop, evidence: Evidence) -> None:
    """The exact risks against means of runs."""
    h, variance = instance.eigenvalues, 0.01
    start = 5 * (instance.start("tail") + instance.start("head"))
    exact = [
        0.5 * h @ moments(start, variance, o.simulated_steps)[-1]
        for moments in (instance.sgd_moments, instance.accelerated_moments)
    ]
    found = []
    for seed in range(o.seeds):
        ends = instance.simulated(start, variance, o.simulated_steps, o.runs, seed)
        found.append([float((0.5 * end**2 @ h).mean() / e) for end, e in zip(ends, exact, strict=True)])
        workshop.progress("seeds", seed + 1, o.seeds)
    for name, ratio in zip(("SGD", "ASGD"), np.array(found).T, strict=True):
        evidence.findings.append(
            Finding("L22", f"{name}: risk of {o.runs} runs after {o.simulated_steps} steps over exact risk",
                    "1 ± 0.03 in the mean", mean_of(ratio), bool(abs(ratio.mean() - 1) <= 0.03),
                    interval_of(ratio))
        )  # fmt: skip


def draw(tables: Tables) -> dict[str, Figure]:
    """Mean and variance over k; risk without noise over steps, from the head and from the tail."""
    figure, axes = panels(1, 3)
    k = [r["k"] for r in tables["directions"]]
    for ax, column, title in zip(
        axes, ("mean", "variance"), ("mean of w_k", "variance of w_k"), strict=False
    ):
        for color, rule in zip(COLORS, ("sgd", "asgd"), strict=False):
            values = [r[f"{column}_{rule}"] for r in tables["directions"]]
            ax.plot(k, values, color=color, label=rule.upper())
        finish(ax, f"{title} at the end", "eigendirection k", title)
    axes[0].set_ylim(1e-16, 3)  # the two cross here; below are the first two or three directions
    for where, line in (("head", "-"), ("tail", "--")):
        here = select(tables["risk"], start=where, variance=0.0)
        for color, rule in zip(COLORS, ("sgd", "asgd"), strict=False):
            axes[2].plot([r["step"] for r in here], [r[rule] for r in here], line, color=color,
                         label=f"{rule.upper()}, start in the {where}")  # fmt: skip
    finish(axes[2], "risk without noise", "step", "½ Σ λ E w²")
    return {"accelerated": figure}


PAPER = Paper(
    "li2023",
    "Li et al. 2023, Risk bounds of accelerated SGD for overparameterized linear regression, "
    "arXiv 2311.14222",
    (
        Experiment(
            "accelerated",
            (
                Claim(
                    "L22",
                    "accelerated SGD's bias decays faster than SGD's along small eigenvalues and slower "
                    "along large ones; its variance is larger in every direction",
                    "Li, Deng, Wu, Zhou & Gu 2023, arXiv 2311.14222, section 4",
                    "simulated",
                    "one crossing of the means; variance ratio above 1 everywhere, 1.5 to 4 in all; risk "
                    "ratio below 0.5 from the tail, above 1.5 from the head; runs within 3 % of it",
                    "d = 200, λ_k = k^(−3/2), 1000 steps; 400 runs of 300 steps in each of 5 seeds",
                    "the same with 20 seeds; the paper is theory",
                ),
            ),
            measure,
            draw,
        ),
    ),
    Options,
    {"seeds": 5},
)
