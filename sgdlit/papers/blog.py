"""The blog on implicit bias in single-epoch SGD: matrix sensing from a stream, and what it is compared with.

B1 and B3 to B9 train networks on d²/2 rank-one measurements, each seen once. B2 is the baseline without a
prior on the rank, B10 the bound that holds for convex losses.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from sgdlit import theory
from sgdlit.figures.style import COLORS, distinct, finish, panels, select
from sgdlit.foundations.errors import UserError
from sgdlit.foundations.intervals import error_limit, mean_and_error
from sgdlit.papers.claim import Claim, Finding
from sgdlit.papers.paper import Evidence, Experiment, Paper, Row, Tables, Workshop
from sgdlit.papers.support.fresh_seeds import FIRST, in_words
from sgdlit.papers.support.seed_findings import in_every_seed
from sgdlit.papers.support.sensing_instances import SMALL_INSTANCES
from sgdlit.papers.support.sensing_networks import DEEP_NETWORKS, SETTINGS
from sgdlit.papers.support.sensing_runs import BLOG, ERROR, MEMBERS, QUIET, SEEDS, trained
from sgdlit.runs.reading import load_run

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass
class LeastSquaresOptions:
    """B2: the matrix of smallest norm that agrees with n rank-one measurements y = aᵀTb.

    Args:
        d: side of T. At 256 a draw at n = d²/2 takes about half a minute.
        r: rank of T, which plays no part.
        shares: the n/d², below 1.
        draws: of T and of the measurements, for each n.
        tolerance: of conjugate gradients, on the residual relative to y.
        seed: of all draws.
    """

    d: int = 64
    r: int = 2
    shares: list[float] = field(default_factory=lambda: [0.125, 0.25, 0.5, 0.75])
    draws: int = 10
    tolerance: float = 1e-5
    seed: int = FIRST


@dataclass
class ConvexOptions:
    """B10: one pass of SGD over convex Lipschitz losses f_a(x) = |aᵀ(x − x*)|, ‖a‖ = 1.

    Args:
        dimensions: of x.
        distance: ‖x¹ − x*‖.
        steps: the K.
        runs: independent runs for each K.
        seed: of all draws.
    """

    dimensions: int = 10
    distance: float = 1.0
    steps: list[int] = field(default_factory=lambda: [10, 30, 100, 300, 1000, 3000])
    runs: int = 200
    seed: int = FIRST


@dataclass
class Options:
    """Minimum-norm least squares (B2), and online SGD on convex losses (B10).

    Symbols: in ``least_squares`` T = G·G′ of rank r, d × d; a, b ~ N(0, I); M what is found. It misses the
    part of T outside the span of the a bᵀ: E ‖M − T‖²/‖T‖² = 1 − n/d², so the ratio is 0.707 at n = d²/2. In
    ``convex`` (F1) K steps, 𝓑 = 1 the bound on the gradients, learning rate η = ‖x¹ − x*‖/(𝓑√K); the mean of
    the best iterate's loss is at most ‖x¹ − x*‖𝓑/√K.

    Args:
        least_squares: of B2.
        convex: of B10.
    """

    least_squares: LeastSquaresOptions = field(default_factory=LeastSquaresOptions)
    convex: ConvexOptions = field(default_factory=ConvexOptions)


# The simple setting, at the size of the source: B1

_NOT_QUITE = (
    "seed 3001 is there at 25 000, the others at 23 700 and 23 800; the published run is a single one"
)


def measure_recovery(o: Options, workshop: Workshop) -> Evidence:
    """Table ``recovery``: relative error over samples, by seed."""
    run = load_run(workshop.fit("simple", "matrix_sensing/simple.yaml", *QUIET, *MEMBERS))
    columns = [member.columns[ERROR] for member in run.members]
    steps, errors = columns[0][0], np.array([values for _, values in columns])
    small = np.where(errors < 0.01, steps, np.inf).min(1)
    early = errors[:, (steps >= 100) & (steps <= 5000)].min(1)
    findings = [
        in_every_seed("B1", "least error up to 5000 samples", early, low=0.97),
        in_every_seed(
            "B1", "error at 15 000 samples (published 0.13)", errors[:, steps == 15_000], 0.06, 0.2
        ),
        in_every_seed("B1", "samples to an error below 0.01", small, high=24_999, note=_NOT_QUITE),
        in_every_seed("B1", "error at the end (published < 0.006)", errors[:, -1], high=0.006),
    ]
    rows = [
        {"seed": seed, "samples": int(s), "error": float(e)}
        for seed, own in zip(SEEDS, errors, strict=True)
        for s, e in zip(steps, own, strict=True)
    ]
    return Evidence({"recovery": rows}, findings, seeds=in_words(len(SEEDS)))


def draw_recovery(tables: Tables) -> dict[str, Figure]:
    """Error over samples, and the baseline."""
    figure, (ax,) = panels(1, 1, width=5.2, height=3.8)
    for k, seed in enumerate(distinct(tables["recovery"], "seed")):
        rows = select(tables["recovery"], seed=seed)
        ax.plot([r["samples"] for r in rows], [r["error"] for r in rows], color=COLORS[k], linewidth=1.2,
                label=f"trained network, seed {seed}")  # fmt: skip
    ax.axhline(
        0.5**0.5, color=COLORS[6], linestyle="--", linewidth=1, label="least squares, d²/2 samples: 0.707"
    )
    finish(ax, "Matrix sensing (B1)", "samples seen, each once", "‖M − T‖ / ‖T‖", log="y")
    return {"recovery": figure}


# Least squares: B2


def measure_least_squares(options: Options, workshop: Workshop) -> Evidence:
    """Table ``least_squares``."""
    o, rows = options.least_squares, []
    _check(o)
    for i, share in enumerate(sorted(o.shares)):
        samples, squares = round(share * o.d**2), []
        for draw in range(o.draws):
            squares.append(theory.minimum_norm_error(samples, o.d, o.r, o.seed, draw, o.tolerance))
            workshop.progress("draws", i * o.draws + draw + 1, len(o.shares) * o.draws)
        rows.append(_row(o, samples, np.array(squares)))
    note = "the published 0.5 at d²/2 samples is the square of the ratio, whose root is 0.707"
    findings = [_about_error(o, row) for row in rows]
    return Evidence({"least_squares": rows}, findings, [note], seeds=str(o.seed))


def _check(o: LeastSquaresOptions) -> None:
    if not 1 <= o.r <= o.d:
        raise UserError(f"r = {o.r}: allowed are 1 to d = {o.d}")
    if o.draws < 5 or not o.shares:
        raise UserError(f"draws = {o.draws}, shares = {o.shares}: at least 5 and 1 are needed")
    for share in o.shares:
        if not 1 <= round(share * o.d**2) < o.d**2:
            raise UserError(f"shares = {share}: allowed is what makes 1 to d² − 1 samples")


def _row(o: LeastSquaresOptions, samples: int, squares: np.ndarray) -> Row:
    mean, error = mean_and_error(squares)
    return {
        "samples": samples,
        "share": samples / o.d**2,
        "error": float(np.sqrt(mean)),
        "squared_error": float(mean),
        "standard_error_of_square": float(error),
        "expected": theory.expected_error(samples, o.d),
    }


def _about_error(o: LeastSquaresOptions, row: Row) -> Finding:
    share, expected, spread = row["share"], row["expected"], row["standard_error_of_square"]
    statement = (
        f"relative error of minimum-norm least squares from {share:.3g} d² samples (root mean square, "
        f"{o.draws} draws)"
    )
    holds = abs(row["squared_error"] - expected**2) <= error_limit(o.draws) * spread
    found = f"{row['error']:.4g} (square {row['squared_error']:.4g} ± {2 * spread:.2g})"
    interval = f"square ± {2 * spread:.2g} (two standard errors)"
    return Finding("B2", statement, f"√(1 − n/d²) = {expected:.4g}", found, holds, interval)


def draw_least_squares(tables: Tables) -> dict[str, Figure]:
    """Error over the number of measurements, and the closed form."""
    rows = tables["least_squares"]
    figure, (ax,) = panels(1, 1, width=4.8, height=3.8)
    shares = np.linspace(0, 1, 201)
    ax.plot(shares, np.sqrt(1 - shares), color=COLORS[0], label="√(1 − n/d²)")
    # The standard error of a root is that of the square over twice the root.
    spread = [row["standard_error_of_square"] / row["error"] for row in rows]
    ax.errorbar(
        [row["share"] for row in rows], [row["error"] for row in rows], spread,
        fmt="o", color=COLORS[1], markersize=4, capsize=3, label="computed, mean ± 2 standard errors",
    )  # fmt: skip
    finish(ax, "Least squares without a prior on the rank (B2)", "n/d²", "‖M − T‖ / ‖T‖", log="")
    return {"least_squares": figure}


# Online convex optimisation: B10


def measure_convex(options: Options, workshop: Workshop) -> Evidence:
    """Table ``regret``."""
    o = options.convex
    if not o.steps:
        raise UserError("steps is empty: at least one K is needed")
    evidence, rows = Evidence(seeds=str(o.seed)), []
    for i, steps in enumerate(sorted(o.steps)):
        losses = theory.simulate_stream(o.dimensions, o.distance, steps, o.runs, o.seed)
        bound = theory.regret_bound(o.distance, 1.0, steps)
        mean, error = map(float, mean_and_error(losses))
        rows.append({"steps": steps, "mean": mean, "standard_error": error, "bound": bound})
        statement = f"mean loss of the best of K = {steps} iterates ({o.runs} runs)"
        found, interval = f"{mean:.4g} ± {2 * error:.2g}", f"± {2 * error:.2g} (two standard errors)"
        holds = mean + 2 * error <= bound
        evidence.findings.append(Finding("B10", statement, f"≤ {bound:.4g}", found, holds, interval))
        workshop.progress("runs", i + 1, len(o.steps))
    evidence.tables["regret"] = rows
    return evidence


def draw_convex(tables: Tables) -> dict[str, Figure]:
    """The best iterate's loss over the steps, and its bound."""
    rows = tables["regret"]
    figure, (ax,) = panels(1, 1, width=4.8, height=3.8)
    steps = [r["steps"] for r in rows]
    ax.plot(steps, [r["bound"] for r in rows], color=COLORS[0], label="bound ‖x¹ − x*‖/√K (F1)")
    ax.errorbar(
        steps, [r["mean"] for r in rows], [2 * r["standard_error"] for r in rows],
        fmt="o", color=COLORS[1], markersize=4, capsize=3, label="simulated, mean ± 2 standard errors",
    )  # fmt: skip
    finish(ax, "online SGD on convex losses (B10)", "steps K", "loss of the best iterate")
    return {"regret": figure}


_RECOVERY = Experiment(
    "recovery",
    (
        trained(
            "B1",
            "a two-layer linear network recovers a matrix of rank 2 from half as many samples as entries",
            "near 1 to 5000 samples, 0.13 near 15 000, below 0.01 before 25 000 and below 0.006 at the end",
            f"d = 256, 32 768 samples, {len(SEEDS)} seeds",
            "the same",
            "simple.yaml",
            shows=False,
        ),
    ),
    measure_recovery,
    draw_recovery,
)
_LEAST_SQUARES = Experiment(
    "least_squares",
    (
        Claim(
            "B2",
            "least squares without a prior on the rank misses √(1 − n/d²) of the matrix",
            f"{BLOG}, B2",
            "simulated",
            "the mean square of ten draws is 1 − n/d², within its error",
            "d = 24, ten draws at four n",
            "d = 64, ten draws at four n",
        ),
    ),
    measure_least_squares,
    draw_least_squares,
)
_CONVEX = Experiment(
    "convex",
    (
        Claim(
            "B10",
            "the best of K iterates on convex Lipschitz losses is within ‖x¹ − x*‖/√K",
            f"{BLOG}, B10; F1",
            "simulated",
            "no mean above the bound",
            "K = 10 and 100, 100 runs each",
            "K = 10 … 3000, 200 runs each",
        ),
    ),
    measure_convex,
    draw_convex,
)

PAPER = Paper(
    "blog",
    f"{BLOG}: matrix sensing by deep linear networks",
    (_RECOVERY, _LEAST_SQUARES, SMALL_INSTANCES, DEEP_NETWORKS, SETTINGS, _CONVEX),
    Options,
    {"least_squares.d": 24, "convex.steps": [10, 100], "convex.runs": 100},
)
