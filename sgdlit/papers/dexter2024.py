"""Dexter et al. 2024: an exact operator decides the mean-square stability of SGD; coherence bounds it (L20).

Instability in the mean square is not divergence of typical runs: just above the edge E‖w‖² explodes, carried
by few runs, while the median run goes to 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sgdlit.figures.style import COLORS, MARKERS, distinct, finish, panels, select
from sgdlit.foundations.errors import UserError
from sgdlit.papers.claim import EXACT, Claim, Finding
from sgdlit.papers.paper import Evidence, Experiment, Paper, Row, Tables, Workshop
from sgdlit.papers.support.seed_findings import in_every_seed, in_the_mean

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_EXAMPLES, _BATCHES = 12, (1, 3, 6)
_SCALES = (2.0, 1.0, 0.5, 0.3)
_SHORT, _LONG, _BATCH = 6, 100, 2


@dataclass
class Options:
    """SGD at a minimum that fits all n examples, each of them in a batch with probability B/n (L20).

    Symbols (Dexter et al., arXiv 2401.12332; F21): ε the learning rate, H_i the Hessian of example i, H their
    mean with largest eigenvalue λ₁, σ the coherence λ₁(S)/max λ₁(H_i) with S_ij = ‖H_i^½H_j^½‖_F, J the
    matrix of a step.

    Args:
        seeds: of the random instances, 0, 1, 2, ….
        runs: simulated, for E‖w‖².
        median_runs: how many of them go on, for the median.
    """

    seeds: int = 10
    runs: int = 20_000
    median_runs: int = 2000


def measure_groups(o: Options, workshop: Workshop) -> Evidence:
    """Table ``groups``: the critical ελ₁ of groups of s equal Hessians, and 2s/(s + n/B − 1)."""
    from sgdlit.theory.moment_operator import Hessians

    rows: list[Row] = []
    for same in (1, 2, 3, 4, 6, 12):
        each = np.repeat(np.eye(_EXAMPLES // same), same, axis=0)
        problem = Hessians.rank_one(each)
        for batch_size in _BATCHES:
            found = problem.critical_lr(batch_size) * problem.sharpness
            exact = 2 * same / (same + _EXAMPLES / batch_size - 1)
            rows.append(
                {
                    "same": same,
                    "batch_size": batch_size,
                    "coherence": problem.coherence,
                    "critical": found,
                    "formula": exact,
                    "bound": problem.unstable_above(batch_size),
                }
            )
    worst = max(abs(r["critical"] - r["formula"]) for r in rows)
    apart = max(abs(r["coherence"] - r["same"]) for r in rows)
    return Evidence(
        {"groups": rows},
        [
            Finding("L20a", "largest |critical ελ₁ − 2s/(s + n/B − 1)| of 18", "< 1e-8", f"{worst:.1e}",
                    worst < 1e-8, EXACT),
            Finding("L20a", "largest |σ − s|", "< 1e-12", f"{apart:.1e}", apart < 1e-12, EXACT),
        ],
    )  # fmt: skip


def draw_groups(tables: Tables) -> dict[str, Figure]:
    """The critical ελ₁ over coherence: bisected, in closed form, and the bound."""
    figure, (ax,) = panels(1, 1, width=4.6, height=3.7)
    rows = tables["groups"]
    for i, batch_size in enumerate(distinct(rows, "batch_size")):
        here = select(rows, batch_size=batch_size)
        x = np.geomspace(1, _EXAMPLES, 60)
        ax.plot(x, 2 * x / (x + _EXAMPLES / batch_size - 1), color=COLORS[i], linewidth=1)
        ax.plot([r["coherence"] for r in here], [r["critical"] for r in here], MARKERS[i], color=COLORS[i],
                markersize=5, label=f"B = {batch_size}: operator's radius 1")  # fmt: skip
        ax.plot(x, np.minimum(2, x / (_EXAMPLES / batch_size - 1) ** 0.5), ":", color=COLORS[i], linewidth=1)
    ax.plot([], [], "k-", linewidth=1, label="2σ/(σ + n/B − 1)")
    ax.plot([], [], "k:", linewidth=1, label="unstable above: min(2, σ(n/B − 1)^(−½))")
    finish(ax, f"edge of mean-square stability, n = {_EXAMPLES} (L20)", "coherence σ", "critical ελ₁")
    return {"groups": figure}


def measure_bounds(o: Options, workshop: Workshop) -> Evidence:
    """Table ``bounds``: the critical ελ₁ of random rank-one Hessians between the two bounds."""
    from sgdlit.theory.draws import normal_matrix
    from sgdlit.theory.moment_operator import Hessians

    rows: list[Row] = []
    for seed in range(o.seeds):
        inputs = normal_matrix(seed, "coherence", _EXAMPLES, len(_SCALES)) * _SCALES
        problem = Hessians.rank_one(inputs)
        for batch_size in _BATCHES:
            rows.append({"seed": seed, "batch_size": batch_size, "coherence": problem.coherence,
                         "critical": problem.critical_lr(batch_size) * problem.sharpness,
                         "unstable_above": problem.unstable_above(batch_size),
                         "reached": problem.reached(batch_size)})  # fmt: skip
        workshop.progress("instances", seed + 1, o.seeds)
    over = [r["critical"] / r["unstable_above"] for r in rows]
    under = [r["critical"] / r["reached"] for r in rows]
    slack = 1 + 1e-9
    return Evidence(
        {"bounds": rows},
        [
            in_every_seed("L20b", "critical ελ₁ over min(2, σ(n/B − 1)^(−½))", over, high=slack),
            in_every_seed("L20b", "critical ελ₁ over 2σ/(σ + n/B − 1)", under, low=1 / slack),
        ],
    )


def draw_bounds(tables: Tables) -> dict[str, Figure]:
    """The critical ελ₁ of every instance, over the lower bound, with the upper one."""
    figure, (ax,) = panels(1, 1, width=4.6, height=3.7)
    rows = tables["bounds"]
    for i, batch_size in enumerate(distinct(rows, "batch_size")):
        here = select(rows, batch_size=batch_size)
        x = [r["reached"] for r in here]
        ax.plot(x, [r["critical"] for r in here], MARKERS[i], color=COLORS[i], markersize=4.5,
                label=f"B = {batch_size}: critical")  # fmt: skip
        ax.plot(x, [r["unstable_above"] for r in here], MARKERS[i], color=COLORS[i], markersize=4.5,
                fillstyle="none", label=f"B = {batch_size}: unstable above")  # fmt: skip
    ends = [min(r["reached"] for r in rows), max(r["reached"] for r in rows)]
    ax.plot(ends, ends, "k--", linewidth=1, label="critical = 2σ/(σ + n/B − 1)")
    finish(ax, "random rank-one Hessians, d = 4 (L20)", "2σ/(σ + n/B − 1)", "ελ₁")
    return {"bounds": figure}


def measure_runs(o: Options, workshop: Workshop) -> Evidence:
    """Table ``runs``: simulated and exact E‖w‖² after 6 steps, the exact one and the median after 106."""
    from sgdlit.theory.draws import generator, normal_matrix
    from sgdlit.theory.moment_operator import Hessians, simulate

    if not 2 <= o.median_runs <= o.runs:
        raise UserError(f"median_runs = {o.median_runs}: must be at least 2 and at most runs = {o.runs}")
    rows: list[Row] = []
    for seed in range(o.seeds):
        inputs = normal_matrix(seed, "stability", _EXAMPLES, 4)
        problem, start = Hessians.rank_one(inputs), np.full(4, 0.5)
        critical = problem.critical_lr(_BATCH)
        for part in (0.9, 1.1):
            lr, chance = part * critical, generator(seed, f"stability runs at {part}")
            moments = [np.outer(start, start)]
            for _ in range(_SHORT + _LONG):
                moments.append(problem.next_moment(moments[-1], lr, _BATCH))
            exact = [float(np.trace(m)) for m in moments]
            w = simulate(inputs, lr, _BATCH, start, o.runs, _SHORT, chance)
            mean = float((w**2).sum(1).mean())
            w = simulate(inputs, lr, _BATCH, w[: o.median_runs], o.median_runs, _LONG, chance)
            rows.append(
                {
                    "seed": seed,
                    "over_critical": part,
                    "simulated": mean,
                    "exact": exact[_SHORT],
                    "exact_at_end": exact[-1],
                    "median_at_end": float(np.median((w**2).sum(1))),
                }
            )
        workshop.progress("instances", seed + 1, o.seeds)
    return Evidence({"runs": rows}, _judge_runs(rows))


def _judge_runs(rows: list[Row]) -> list[Finding]:
    below, above = (select(rows, over_critical=part) for part in (0.9, 1.1))
    ratio = [[r["simulated"] / r["exact"] for r in part] for part in (below, above)]
    growth = [[r["exact_at_end"] / r["exact"] for r in part] for part in (below, above)]
    simulated = f"simulated E‖w‖² over the exact one after {_SHORT} steps, at"
    exact = f"exact E‖w‖² after another {_LONG} steps over that before, at"
    spread = f"single instances {min(ratio[0]):.2f} to {max(ratio[0]):.2f}, each with an error of up to 4 %"
    heavy = "heavy tails: few runs carry the mean"
    median = "median ‖w‖² then, at 1.1 of it, from ‖w‖² = 1"
    return [
        in_the_mean("L20c", f"{simulated} 0.9 of the critical rate", ratio[0], 0.95, 1.05, spread),
        in_every_seed("L20c", f"{simulated} 1.1 of it", ratio[1], 0.3, 1.7, heavy),
        in_every_seed(
            "L20d", f"{exact} 0.9 of the critical rate", growth[0], high=1e-3, note=_slow(growth[0])
        ),
        in_every_seed("L20c", f"{exact} 1.1 of it", growth[1], low=1e3),
        in_every_seed("L20c", median, [r["median_at_end"] for r in above], high=0.1),
    ]


def _slow(growth: list[float]) -> str:
    """What the radius of the slowest instance is, if it falls by ``growth`` in the long run's steps."""
    middle, largest = float(np.median(growth)), max(growth)
    return (
        f"falls in every instance, {middle:.1e} in the median; the slowest falls by "
        f"{largest ** (1 / _LONG):.3f} a step: how far below 1 the radius is at 0.9 of the critical rate "
        "differs between instances"
    )


def draw_runs(tables: Tables) -> dict[str, Figure]:
    """Where E‖w‖² and the median of ‖w‖² are after 106 steps."""
    figure, (ax,) = panels(1, 1, width=4.6, height=3.7)
    rows = tables["runs"]
    for i, part in enumerate(distinct(rows, "over_critical")):
        here = select(rows, over_critical=part)
        x = [r["seed"] + 0.3 * i for r in here]
        ax.plot(x, [r["exact_at_end"] for r in here], MARKERS[0], color=COLORS[i], markersize=5,
                label=f"E‖w‖², exact, at {part} of the critical ε")  # fmt: skip
        ax.plot(x, [r["median_at_end"] for r in here], MARKERS[1], color=COLORS[i], markersize=5,
                fillstyle="none", label=f"median ‖w‖² of runs, at {part}")  # fmt: skip
    ax.axhline(1, color="black", linewidth=1, linestyle="--")
    ax.set_ylim(1e-19, 1e20)
    finish(ax, f"after {_SHORT + _LONG} steps from ‖w‖ = 1 (L20)", "instance", "‖w‖²", log="y")
    return {"runs": figure}


_SOURCE = "Dexter, Ocejo, Keerthi, Gupta, Acharya & Khanna 2024, arXiv 2401.12332"
_RUNS = "n = 12, x ~ N(0, I₄), B = 2, 20 000 runs of 6 steps, 2000 of them for 106, 10 seeds"
_FULL = "the same, and per-example Hessians of an interpolating MLP at their top eigenvectors"

PAPER = Paper(
    "dexter2024",
    "Dexter et al. 2024, A precise characterization of SGD stability using loss surface geometry, "
    "arXiv 2401.12332",
    (
        Experiment(
            "groups",
            (
                Claim(
                    "L20a",
                    "for every coherence σ some Hessians are stable up to ελ₁ = 2σ/(σ + n/B − 1) and no "
                    "further",
                    f"{_SOURCE}, theorem 2; F21",
                    "exact",
                    "critical ελ₁ = 2s/(s + n/B − 1) to 1e-8, in 18 of 18 cases",
                    "n = 12 in groups of s = 1, 2, 3, 4, 6, 12 equal rank-one Hessians, B = 1, 3, 6; "
                    "bisection",
                    "the same",
                ),
            ),
            measure_groups,
            draw_groups,
        ),
        Experiment(
            "bounds",
            (
                Claim(
                    "L20b",
                    "SGD is unstable if λ₁ > σ/ε·(n/B − 1)^(−½)",
                    f"{_SOURCE}, theorem 1; F21",
                    "exact",
                    "the bound holds in all instances, and critical ελ₁ ≥ 2σ/(σ + n/B − 1)",
                    "random rank-one Hessians, n = 12, d = 4, scales 2, 1, 0.5, 0.3, B = 1, 3, 6, 10 seeds",
                    _FULL,
                ),
            ),
            measure_bounds,
            draw_bounds,
        ),
        Experiment(
            "runs",
            (
                Claim(
                    "L20c",
                    "the operator's radius decides E‖w‖², which explodes above the critical rate while the "
                    "median run still goes to 0",
                    f"{_SOURCE}, section 3; F21",
                    "simulated",
                    "simulated/exact 1 ± 0.05 in the mean at 0.9 and 1 ± 0.7 at 1.1 of the critical rate; "
                    "at 1.1 E‖w‖² rises by 10³ in 100 more steps in every seed, and the median run falls "
                    "below 0.1",
                    _RUNS,
                    _FULL,
                    other_seeds="of 2000 to 2009 one has a median of 0.50, not below 0.1",
                ),
                Claim(
                    "L20d",
                    "a tenth below the critical rate E‖w‖² falls by 10³ in 100 more steps",
                    f"{_SOURCE}, section 3; F21",
                    "exact",
                    "by more than 10³ in every seed",
                    _RUNS,
                    _FULL,
                    shows=False,
                    other_seeds="with 1000 to 1009, and with 2000 to 2009, it holds",
                ),
            ),
            measure_runs,
            draw_runs,
        ),
    ),
    Options,
)
