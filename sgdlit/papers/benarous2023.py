"""Ben Arous et al. 2023, outlier eigenspaces: the rows of a softmax classifier turn into the top of their
spectra.

Pitfall: the spectrum of a test set has no gap where the examples are not many times the dimension, or where
the noise is so large that its bulk hides the means; then there is no outlier eigenspace to align with,
although the classifier is good.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from sgdlit.figures.style import COLORS, MARKERS, distinct, finish, panels, select
from sgdlit.foundations.errors import UserError
from sgdlit.papers.claim import Claim, Finding
from sgdlit.papers.paper import Evidence, Experiment, Paper, Row, Tables, Workshop
from sgdlit.papers.support.seed_findings import in_the_mean

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TIMES = (0.0, 0.25, 1.0, 2.0, 4.0)
_FLOORS = {0.25: 0.6, 1.0: 0.85, 4.0: 0.92}
_SPREAD = 0.02  # of the alignment over the seeds
_HIDDEN = 0.65  # that the alignment with a spectrum without a gap does not exceed
_BLOCKS = ("hessian", "gradient")


@dataclass
class Options:
    """Online SGD on the cross-entropy of softmax(Wy), y from k Gaussians with orthonormal means and
    covariance I/λ.

    Symbols (Ben Arous et al., arXiv 2310.03010): d inputs, k classes, t steps of one example each; U_k the
    top k eigenvectors of a class's block.

    Args:
        d: number of inputs.
        classes: k.
        precisions: λ, each.
        lr: learning rate.
        decay: the weights shrink by decay/d a step.
        tested: fresh examples for the blocks, over d.
        seeds: 0, 1, ..., this many.
    """

    d: int = 200
    classes: int = 4
    precisions: list[float] = field(default_factory=lambda: [10.0, 100.0, 1000.0])
    lr: float = 0.1
    decay: float = 0.01
    tested: int = 6
    seeds: int = 5


def measure(o: Options, workshop: Workshop) -> Evidence:
    """Table ``alignment``: ‖U_kᵀw_c‖/‖w_c‖, mean over c, and the accuracy, by λ, seed and t/d."""
    if o.seeds < 2 or not 2 <= o.classes <= o.d:
        raise UserError(
            f"seeds = {o.seeds}, classes = {o.classes}: at least 2 each, and at most d = {o.d} classes"
        )
    from sgdlit.papers.support.softmax_run import aligned

    rows: list[Row] = []
    for k, precision in enumerate(o.precisions):
        for seed in range(o.seeds):
            found = aligned(o.d, o.classes, precision, o.lr, o.decay, o.tested, _TIMES, seed)
            rows += [{"precision": precision, "seed": seed, **row} for row in found]
        workshop.progress("precisions", k + 1, len(o.precisions))
    return Evidence({"alignment": rows}, _findings(o, rows))


def _findings(o: Options, rows: list[Row]) -> list[Finding]:
    def values(kind: str, **where: float) -> np.ndarray:
        return np.array([row[kind] for row in select(rows, **where)])

    start, findings = math.sqrt(o.classes / o.d), []
    for kind in _BLOCKS:
        for precision in o.precisions:
            statement = f"{kind} block, λ = {precision:g}: alignment at the start, where √(k/d) = {start:.3f}"
            at_start = values(kind, precision=precision, time=0.0)
            findings.append(in_the_mean("L23a", statement, at_start, start - 0.06, start + 0.06))
        for precision in (p for p in o.precisions if p >= 100):
            for time, floor in _FLOORS.items():
                own = values(kind, precision=precision, time=time)
                name = f"{kind} block, λ = {precision:g}: alignment at t = {time:g}d"
                findings.append(in_the_mean("L23a", name, own, floor, 1))
                before = values(kind, precision=precision, time=0.0)
                findings.append(_spread(name, time, own, before))
        for precision in (p for p in o.precisions if p < 100):
            own = np.array([values(kind, precision=precision, seed=seed).max() for seed in range(o.seeds)])
            name = f"{kind} block, λ = {precision:g}: largest alignment at any time"
            findings.append(in_the_mean("L23b", name, own, 0, _HIDDEN))
    for precision in (p for p in o.precisions if p < 100):
        own = values("accuracy", precision=precision, time=_TIMES[-1])
        name = f"λ = {precision:g}: accuracy at t = {_TIMES[-1]:g}d"
        findings.append(in_the_mean("L23b", name, own, 0.9, 1))
    return findings


def draw(tables: Tables) -> dict[str, Figure]:
    """Alignment over t/d, by λ, for both blocks; the seeds are points, their mean a line."""
    rows = tables["alignment"]
    figure, axes = panels(1, 2, width=4.4, height=3.6)
    for ax, kind in zip(axes, _BLOCKS, strict=True):
        for color, marker, precision in zip(COLORS, MARKERS, distinct(rows, "precision"), strict=False):
            own = select(rows, precision=precision)
            times = distinct(own, "time")
            ax.plot(
                [r["time"] for r in own], [r[kind] for r in own], marker, color=color, markersize=3, alpha=0.6
            )
            means = [np.mean([r[kind] for r in select(own, time=time)]) for time in times]
            ax.plot(times, means, color=color, linewidth=1.2, label=f"λ = {precision:g}")
        ax.plot(list(_FLOORS), list(_FLOORS.values()), "k_", markersize=12, label="at least, for λ ≥ 100")
        ax.axhline(_HIDDEN, color=COLORS[0], linestyle=":", linewidth=1, label="at most, for λ = 10")
        ax.set_ylim(0, 1.02)
        name = {"hessian": "E[p(1 − p)yyᵀ]", "gradient": "E[(p − 1_c)²yyᵀ]"}[kind]
        finish(ax, f"rows in the top eigenspace of {name} (L23)", "steps over d", "‖Uₖᵀw_c‖/‖w_c‖", log="")
    return {"alignment": figure}


def _spread(name: str, time: float, values: np.ndarray, before: np.ndarray) -> Finding:
    """That the standard deviation over the seeds is below 0.02: L23a at the end, L23c earlier."""
    spread, end = float(values.std(ddof=1)), time == _TIMES[-1]
    return Finding(
        "L23a" if end else "L23c",
        f"{name}, standard deviation over the seeds",
        f"below {_SPREAD:g}",
        f"{spread:.2g}",
        spread < _SPREAD,
        f"none: itself a spread over {len(values)} seeds",
        f"it was {float(before.std(ddof=1)):.2g} at the start, and wears off",
    )


_SOURCE = "Ben Arous, Gheissari, Huang & Jagannath 2023, arXiv 2310.03010"
_QUICK = "d = 200, k = 4, λ = 10, 100, 1000, rate 0.1, 4d steps of one example, 5 seeds"
_FULL = "d = 1000, k = 10, and the XOR mixture with a two-layer network"

PAPER = Paper(
    "benarous2023",
    "Ben Arous, Gheissari, Huang & Jagannath 2023, High-dimensional SGD aligns with emerging outlier "
    "eigenspaces, "
    "arXiv 2310.03010",
    (
        Experiment(
            "mixture",
            (
                Claim(
                    "L23a",
                    "the rows of a softmax classifier align with the top eigenspaces of their Hessian "
                    "and gradient "
                    "blocks within about d steps",
                    _SOURCE,
                    "simulated",
                    "for λ ≥ 100 from √(k/d) ± 0.06 to above 0.6 at d/4, 0.85 at d and 0.92 at 4d, "
                    "spread below 0.02 at 4d",
                    _QUICK,
                    _FULL,
                ),
                Claim(
                    "L23b",
                    "where the bulk of the empirical spectrum hides the means, there is nothing to "
                    "align with",
                    f"{_SOURCE}, which asks for a large λ",
                    "simulated",
                    "for λ = 10 at most 0.65 at any time, at an accuracy above 0.9",
                    _QUICK,
                    _FULL,
                ),
                Claim(
                    "L23c",
                    "the rows turn alike in every draw, on the way too",
                    _SOURCE,
                    "simulated",
                    "for λ ≥ 100 a spread of the alignment below 0.02 at d/4 and d",
                    _QUICK,
                    _FULL,
                    shows=False,
                    other_seeds="with 1000 to 1004, and with 2000 to 2004, it holds",
                ),
            ),
            measure,
            draw,
        ),
    ),
    Options,
)
