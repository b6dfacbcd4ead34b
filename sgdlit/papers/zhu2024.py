"""Zhu et al. 2024, APOLLO: column factors of Adam from a random projection train like Adam at SGD's memory.

Adam multiplies a gradient by a factor for each entry. APOLLO keeps one factor for each column, the length of
the column after Adam over that before, and computes it from r random mixtures of the rows. The factors come
out √(r/m) times as large, since √V̂ of a projected row is ‖column‖/√r and not ‖column‖/√m; a rate that is
tuned takes that up.

What misleads: with one factor for the whole tensor (Mini, r = 1) the method is SGD with a scalar rate, and
does no better where columns differ.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sgdlit import theory
from sgdlit.figures.style import COLORS, MARKERS, distinct, finish, panels, select
from sgdlit.papers.claim import EXACT, Claim, Finding
from sgdlit.papers.paper import Evidence, Experiment, Paper, Row, Tables, Workshop
from sgdlit.papers.support.seed_findings import in_every_seed
from sgdlit.theory.gradient_scaling import (
    AdamMoments,
    column_factors,
    projected_factors,
    tensor_factor,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = np.ndarray
Direction = Callable[[Array], Array]
"""gradient ``[S, K, m, n]`` -> what is stepped along."""

_TOLERANCE = {64: 0.05, 16: 0.1, 4: 0.4}
_ROWS, _COLUMNS, _GRADIENTS = 256, 64, 30
_SIZE, _BATCH_SIZE, _STEPS, _RANK = 32, 64, 300, 4
_RATES = {
    "SGD": np.geomspace(0.01, 3, 11),
    "Adam": np.geomspace(0.001, 1, 13),
    "APOLLO, r = 4": np.geomspace(0.001, 10, 17),
    "Mini, r = 1": np.geomspace(0.001, 10, 17),
}


@dataclass
class Options:
    """Scaling factors of Adam's columns, and linear regression with inputs of very different sizes.

    Symbols (Zhu et al., arXiv 2412.05270, algorithm 1): G ``m × n`` a gradient, P ``r × m`` a projection with
    entries N(0, 1/r), R = PG; factor of column j: ‖R̃_j‖/‖R_j‖ with R̃ what Adam makes of R.

    Args:
        seeds: of all draws.
    """

    seeds: int = 5


# The factors


def measure_factors(o: Options, workshop: Workshop) -> Evidence:
    """Table ``factors``: of each seed and rank, the factor over that of Adam in full, by column."""
    rows: list[Row] = []
    ratios: dict[int, Array] = {}
    for rank in sorted(_TOLERANCE):
        each = [factor_ratios(rank, seed) for seed in range(o.seeds)]
        ratios[rank] = np.stack(each) / np.sqrt(rank / _ROWS)
        rows += [
            {"rank": rank, "seed": seed, "column": j, "ratio": float(v)}
            for seed, one in enumerate(each)
            for j, v in enumerate(one)
        ]
    return Evidence({"factors": rows}, _about_factors(ratios))


def factor_ratios(rank: int, seed: int) -> Array:
    """Factors through a projection of this rank over those of Adam in full, ``[n]``.

    A fixed matrix of rank 8 and fresh normal noise, times fixed lognormal column scales, for 30 steps.
    """
    low = theory.normal_matrix(seed, "APOLLO left", _ROWS, 8) @ theory.normal_matrix(
        seed, "APOLLO right", 8, _COLUMNS
    )
    scales = np.exp(theory.normal_matrix(seed, "APOLLO scales", 1, _COLUMNS))
    gradients = [
        (low + theory.normal_matrix(seed, f"APOLLO noise {t}", _ROWS, _COLUMNS)) * scales
        for t in range(_GRADIENTS)
    ]
    projection = theory.normal_matrix(seed, f"APOLLO projection {rank}", rank, _ROWS) / np.sqrt(rank)
    moments = AdamMoments()
    adapted = [moments.adapted(gradient) for gradient in gradients][-1]
    return projected_factors(gradients, projection) / column_factors(adapted, gradients[-1])


def _about_factors(ratios: dict[int, Array]) -> list[Finding]:
    spread = {rank: found.std(1) / found.mean(1) for rank, found in ratios.items()}
    findings = [
        in_every_seed(
            "L9a", f"r = {rank}: mean over columns of the factor through P over Adam's, over √(r/m)",
            ratios[rank].mean(1), 1 - tolerance, 1 + tolerance,
        )
        for rank, tolerance in _TOLERANCE.items()
    ]  # fmt: skip
    falls = np.maximum(spread[16] / spread[4], spread[64] / spread[16])
    statement = "relative spread over columns at r = 16 over 4, and 64 over 16, the larger"
    return [*findings, in_every_seed("L9a", statement, falls, high=1)]


def draw_factors(tables: Tables) -> dict[str, Figure]:
    """The ratio of factors over the rank, and √(r/m)."""
    figure, (ax,) = panels(1, 1, width=4.8, height=3.8)
    rows = tables["factors"]
    ranks = distinct(rows, "rank")
    for rank in ranks:
        here = select(rows, rank=rank)
        x = [rank * 1.05 ** (row["seed"] - 2) for row in here]
        ax.plot(x, [row["ratio"] for row in here], ".", color=COLORS[1], markersize=3, alpha=0.4,
                label="columns of five seeds" if rank == ranks[0] else None)  # fmt: skip
    ax.plot(ranks, [np.sqrt(rank / _ROWS) for rank in ranks], color=COLORS[0], label="√(r/m), m = 256")
    finish(ax, "column factors through a projection", "rank r", "factor over that of Adam in full")
    ax.set_xticks(ranks, [str(rank) for rank in ranks])
    ax.minorticks_off()
    return {"factors": figure}


# Training


def measure_regression(o: Options, workshop: Workshop) -> Evidence:
    """Tables ``regression``, the error at the end by method, rate and seed, and ``state``."""
    rows: list[Row] = []
    best: dict[str, Array] = {}
    for i, (method, rates) in enumerate(_RATES.items()):
        errors = weight_errors(method, rates, o.seeds)
        best[method] = np.nanmin(errors, 1)
        rows += [
            {"method": method, "lr": float(lr), "seed": seed, "error": float(e) if np.isfinite(e) else None}
            for seed in range(o.seeds)
            for lr, e in zip(rates, errors[seed], strict=True)
        ]
        workshop.progress("methods", i + 1, len(_RATES))
    return Evidence({"regression": rows}, _about_regression(best))


def weight_errors(method: str, rates: Array, seeds: int) -> Array:
    """‖W − W*‖²/‖W*‖² after 300 steps with a rate that falls linearly to 0, ``[S, rates]``; NaN: diverged.

    y = W*x without noise, W from 0, inputs with standard deviations 1 … 0.01 along the axes.
    """
    std = np.geomspace(1, 0.01, _SIZE)
    target = np.stack([theory.normal_matrix(seed, "APOLLO target", _SIZE, _SIZE) for seed in range(seeds)])[
        :, None
    ]
    _, direction = _direction(method, seeds)
    apart = -np.broadcast_to(target, (seeds, len(rates), _SIZE, _SIZE)).copy()
    with np.errstate(over="ignore", invalid="ignore"):
        for t in range(_STEPS):
            purpose = f"APOLLO inputs {t}"
            drawn = [theory.normal_matrix(seed, purpose, _BATCH_SIZE, _SIZE) for seed in range(seeds)]
            x = np.stack(drawn) * std
            gradient = apart @ (x.swapaxes(-1, -2) @ x / _BATCH_SIZE)[:, None]
            apart = apart - rates[:, None, None] * (1 - t / _STEPS) * direction(gradient)
        errors = (apart**2).sum((-2, -1)) / (target**2).sum((-2, -1))
    return np.where(np.isfinite(errors), errors, np.nan)


def _direction(method: str, seeds: int) -> tuple[AdamMoments, Direction]:
    """What a method steps along, and the moments that it keeps for that."""
    moments = AdamMoments()
    if method == "SGD":
        return moments, lambda gradient: gradient
    if method == "Adam":
        return moments, moments.adapted
    rank, factors = (_RANK, column_factors) if method.startswith("APOLLO") else (1, tensor_factor)
    projection = np.stack([
        theory.normal_matrix(seed, f"APOLLO regression projection {rank}", rank, _SIZE) / np.sqrt(rank)
        for seed in range(seeds)
    ])[:, None]  # fmt: skip

    def scaled(gradient: Array) -> Array:
        seen = projection @ gradient
        return gradient * factors(moments.adapted(seen), seen)[..., None, :]

    return moments, scaled


def numbers_kept(method: str) -> int:
    """How many numbers the moments of a method are after a step, for the m × n of the regression."""
    gradient = np.ones((1, 1, _SIZE, _SIZE))
    moments, direction = _direction(method, 1)
    direction(gradient)
    return moments.mean.size + moments.square.size if moments.step else 0


def _about_regression(best: dict[str, Array]) -> list[Finding]:
    sgd, adam, apollo, mini = (best[method] for method in _RATES)
    error = "weight error at the end, best rates"
    m, n, kept = _SIZE, _SIZE, [numbers_kept(method) for method in _RATES]
    predicted = [0, 2 * m * n, 2 * _RANK * n, 2 * n]
    note = (
        f"Mini over SGD {np.median(mini / sgd):.2g}, over APOLLO {np.median(mini / apollo):.2g} in the median"
    )
    return [
        in_every_seed("L9b", f"{error}, Adam over SGD", adam / sgd, high=1e-3),
        in_every_seed("L9b", f"{error}, APOLLO over SGD", apollo / sgd, high=1e-3),
        in_every_seed("L9b", f"{error}, Mini over APOLLO", mini / apollo, low=1, note=note),
        in_every_seed("L9b", f"{error}, Mini over SGD", mini / sgd, high=1),
        Finding(
            "L9b", "numbers of state of SGD, Adam, APOLLO and Mini, m = n = 32",
            ", ".join(map(str, predicted)), ", ".join(map(str, kept)), kept == predicted, EXACT,
            "0, 2mn, 2rn and 2n; Mini keeps a norm and the seed of P too",
        ),
    ]  # fmt: skip


def draw_regression(tables: Tables) -> dict[str, Figure]:
    """The error at the end over the rate, each method."""
    figure, (ax,) = panels(1, 1, width=5.0, height=3.8)
    for k, method in enumerate(_RATES):
        rows = [row for row in select(tables["regression"], method=method) if row["error"] is not None]
        rates = [lr for lr in distinct(rows, "lr") if len(select(rows, lr=lr)) == len(distinct(rows, "seed"))]
        errors = np.array([[row["error"] for row in select(rows, lr=lr)] for lr in rates])
        ax.plot(rates, np.median(errors, 1), color=COLORS[k], marker=MARKERS[k], markersize=4, label=method)
        ax.fill_between(rates, errors.min(1), errors.max(1), color=COLORS[k], alpha=0.2, linewidth=0)
    finish(ax, "regression, inputs of sizes 1 … 0.01", "learning rate", "‖W − W*‖² / ‖W*‖² after 300 steps")
    ax.set_ylim(top=10)
    return {"regression": figure}


_SOURCE = "Zhu et al. 2024, arXiv 2412.05270"
_FULL = "LLaMA of 60M to 7B parameters on C4"

PAPER = Paper(
    "zhu2024",
    "Zhu et al. 2024, APOLLO: SGD-like memory, AdamW-level performance, arXiv 2412.05270",
    (
        Experiment(
            "factors",
            (
                Claim(
                    "L9a",
                    "Adam's column factors through a projection of m rows to r are √(r/m) times its own",
                    f"{_SOURCE}, theorem on the scaling factors, section 4",
                    "simulated",
                    "within 5 % at r = 64, 10 % at 16, 40 % at 4; a spread over columns that falls with r",
                    "gradients 256×64, of rank 8 and noise with lognormal columns, 30 steps, five seeds",
                    _FULL,
                    "list/apollo.yaml",
                    other_seeds="of 2000 to 2004 one is just above 1.1 at r = 16",
                ),
            ),
            measure_factors,
            draw_factors,
        ),
        Experiment(
            "regression",
            (
                Claim(
                    "L9b",
                    "column factors of a projection to a few rows train like Adam",
                    f"{_SOURCE}, algorithm 1",
                    "simulated",
                    "APOLLO and Adam below 1e-3 of SGD's error; one factor per tensor in between",
                    "linear regression 32×32, inputs of sizes 1 … 0.01, 300 steps, best rates, five seeds",
                    _FULL,
                    "list/apollo.yaml",
                ),
            ),
            measure_regression,
            draw_regression,
        ),
    ),
    Options,
)
